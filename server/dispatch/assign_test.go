package dispatch

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

func TestHostPortVariables(t *testing.T) {
	for name, c := range map[string]struct {
		ports []api.HostPort
		want  map[string]string
	}{
		"none": {nil, map[string]string{}},
		"tcp":  {[]api.HostPort{{Host: 8080, Port: 80, Protocol: api.TCP}}, map[string]string{"SLIPWAY_HOST_PORT_80": "8080"}},
		"udp":  {[]api.HostPort{{Host: 20001, Port: 53, Protocol: api.UDP}}, map[string]string{"SLIPWAY_HOST_PORT_53": "20001", "SLIPWAY_HOST_PORT_53_UDP": "20001"}},
		"both of one port, udp first": {
			[]api.HostPort{{Host: 20001, Port: 53, Protocol: api.UDP}, {Host: 20002, Port: 53, Protocol: api.TCP}},
			map[string]string{"SLIPWAY_HOST_PORT_53": "20002", "SLIPWAY_HOST_PORT_53_UDP": "20001"},
		},
		"both of one port, tcp first": {
			[]api.HostPort{{Host: 20002, Port: 53, Protocol: api.TCP}, {Host: 20001, Port: 53, Protocol: api.UDP}, {Host: 9000, Port: 9000, Protocol: api.TCP}},
			map[string]string{"SLIPWAY_HOST_PORT_53": "20002", "SLIPWAY_HOST_PORT_53_UDP": "20001", "SLIPWAY_HOST_PORT_9000": "9000"},
		},
	} {
		if got := hostPortVariables(&api.Grant{HostPorts: c.ports}); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if got := hostPortVariables(nil); len(got) != 0 {
		t.Errorf("without a grant: %v", got)
	}
}

// plain opens what nobody sealed.
type plain struct{}

func (plain) Release(*api.Release) (api.ReleaseSecrets, error) {
	own := map[string]string{"SLIPWAY_HOST_PORT_81": "mine"}
	return api.ReleaseSecrets{Services: map[api.ServiceName]api.ServiceSecrets{"web": {Env: own}}}, nil
}
func (plain) Build(*api.Build) (api.BuildSecrets, error) { return api.BuildSecrets{}, nil }
func (plain) Command(*api.Process) ([]string, error)     { return nil, nil }
func (plain) Registry(r *state.Registry) (api.RegistryLogin, error) {
	return api.RegistryLogin{Server: r.Server, Username: r.Username, Password: string(r.Sealed)}, nil
}

// TestBuildsGetTheLogins: a build may pull from every registry that the rack has a login for.
func TestBuildsGetTheLogins(t *testing.T) {
	s := state.New()
	s.ApplyAll(1, []state.Entry{
		{Command: state.CreateApp{App: api.App{Name: "shop"}}},
		{Command: state.CreateBuild{Build: api.Build{ID: "B1", App: "shop"}}},
		{Command: state.PutRegistry{Registry: state.Registry{Server: "b.test", Username: "bob", Sealed: []byte("two")}}},
		{Command: state.PutRegistry{Registry: state.Registry{Server: "a.test", Username: "ann", Sealed: []byte("one")}}},
	})
	a, err := assignment(s.View(), &api.Process{Kind: api.KindBuild, App: "shop", Build: "B1"}, plain{})
	want := []api.RegistryLogin{{Server: "a.test", Username: "ann", Password: "one"}, {Server: "b.test", Username: "bob", Password: "two"}}
	if err != nil || a.Build == nil || !slices.Equal(a.Build.Registries, want) {
		t.Errorf("%+v, %v", a.Build, err)
	}
}

// TestAssignmentCarriesTheGrant: what a plan grants reaches the agent, and the process by its
// environment, where the app's own word wins.
func TestAssignmentCarriesTheGrant(t *testing.T) {
	grant := &api.Grant{
		Devices:   []string{"/dev/fuse"},
		HostPorts: []api.HostPort{{Host: 20001, Port: 80, Protocol: api.TCP}, {Host: 20002, Port: 81, Protocol: api.TCP}},
	}
	key := api.ServiceKey{App: "shop", Service: "web"}
	spec := api.ServiceSpec{Name: "web", HostPorts: []api.HostPort{{Port: 80, Protocol: api.TCP}, {Port: 81, Protocol: api.TCP}}, Devices: []api.DeviceAsk{{Kind: "fuse", Count: 1}}}
	s := state.New()
	for i, c := range []state.Command{
		state.RegisterNode{Node: api.Node{ID: "n1", Name: "one", Capacity: api.Amount{CPU: 1000, Memory: api.GiB}, Devices: []api.Device{{Kind: "fuse", Instances: []string{"/dev/fuse"}}}}},
		state.CreateApp{App: api.App{Name: "shop"}},
		state.CreateBuild{Build: api.Build{ID: "BONE", App: "shop"}},
		state.CreateRelease{Release: api.Release{ID: "RONE", App: "shop", Build: "BONE", Services: []api.ServiceSpec{spec}}},
		state.SetWant{Key: key, Want: []api.Want{{Release: "RONE", Count: 1}}},
		state.ApplyPlan{Place: []api.Group{{Key: key, Release: "RONE", Copies: []api.Copy{{ID: "pone", Slot: 1, Node: "n1", Grant: grant}}}}},
	} {
		if r := s.Apply(uint64(i+1), state.Entry{Command: c}); r.Err != nil || len(r.Dropped) > 0 {
			t.Fatalf("%s: %v, dropped %q", c.Type(), r.Err, r.Dropped)
		}
	}
	p, _ := s.View().Process("pone")
	doc, err := new(documents).assignment(s.View(), p, plain{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := pb.Unmarshal[api.Assignment](doc)
	if err != nil || !reflect.DeepEqual(a.Grant, grant) {
		t.Errorf("granted %+v, %v; want %+v", a.Grant, err, grant)
	}
	if one, two := a.Env["SLIPWAY_HOST_PORT_80"], a.Env["SLIPWAY_HOST_PORT_81"]; one != "20001" || two != "mine" {
		t.Errorf("the environment says %q and %q", one, two)
	}
}
