package agent

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/fake"
)

var quiet = slog.New(slog.DiscardHandler)

// granted is an assignment with a port and a device of its own.
func granted(id api.ProcessID, host int, devices ...string) *api.Assignment {
	a := web()
	a.Process, a.Image = id, api.Image{Repository: "shop", Digest: "sha256:1"}
	a.Grant = &api.Grant{HostPorts: []api.HostPort{{Host: host, Port: 80, Protocol: api.TCP}}, Devices: devices}
	return a
}

func TestGrantsBelongToOneProcess(t *testing.T) {
	g := newGrants([]api.Device{{Kind: "gpu", Instances: []string{"/dev/nvidia0", "/dev/nvidia1"}}})
	claim := func(a *api.Assignment, code api.Code, words ...string) {
		t.Helper()
		err := g.claim(a.Process, a.Grant)
		if api.CodeOf(err) != code {
			t.Errorf("%s: %v, want code %q", a.Process, err, code)
		}
		for _, word := range words {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", a.Process, err, word)
			}
		}
	}
	claim(granted("pone", 8080, "/dev/nvidia0"), "")
	claim(granted("pone", 8080, "/dev/nvidia0"), "") // a second try
	claim(granted("ptwo", 8080, "/dev/nvidia1"), api.CodeConflict, "host port 8080/tcp", "process pone")
	claim(granted("ptwo", 8081, "/dev/nvidia0"), api.CodeConflict, "device /dev/nvidia0", "process pone")
	claim(granted("ptwo", 8081, "/dev/nvidia1"), "") // the two that failed took nothing
	claim(granted("pthree", 8082, "/dev/nvidia7"), api.CodeNotFound, "device /dev/nvidia7", "/dev/nvidia0, /dev/nvidia1")
	for _, p := range []api.HostPort{{Port: 80, Protocol: api.TCP}, {Host: 65536, Port: 80, Protocol: api.TCP}, {Host: 80, Protocol: api.UDP}, {Host: 80, Port: 80, Protocol: "sctp"}} {
		claim(&api.Assignment{Process: "pthree", Grant: &api.Grant{HostPorts: []api.HostPort{p}}}, api.CodeInvalid)
	}
	udp := &api.Assignment{Process: "pudp", Grant: &api.Grant{HostPorts: []api.HostPort{{Host: 8080, Port: 80, Protocol: api.UDP}}}}
	claim(udp, "") // another port than TCP's
	g.release("pone")
	claim(granted("pthree", 8080, "/dev/nvidia0"), "")
	claim(web(), "") // one without any
	if other := newGrants(nil).claim("pone", granted("pone", 1, "/dev/x").Grant); other == nil || !strings.Contains(other.Error(), "has none") {
		t.Errorf("a node without devices: %v", other)
	}
}

// bench is an engine of supervisors on the fake runtime, with two devices.
func bench(t *testing.T) (*containers, *fake.Engine) {
	t.Helper()
	e := fake.New()
	t.Cleanup(e.Close)
	for _, d := range []string{"/dev/coral0", "/dev/coral1"} {
		e.AddDevice(d)
	}
	image := api.Image{Repository: "shop", Digest: "sha256:1"}
	e.AddImage(image.Ref(), fake.Image{Info: runtime.ImageInfo{Entrypoint: []string{"/app"}}})
	if _, err := e.Pull(t.Context(), image.Ref(), nil); err != nil {
		t.Fatal(err)
	}
	return &containers{
		runtime: e, networks: noNetworks{}, logs: noLogs{}, volumes: t.TempDir(), now: time.Now,
		grants: newGrants([]api.Device{{Kind: "coral", Instances: []string{"/dev/coral0", "/dev/coral1"}}}),
	}, e
}

type noNetworks struct{}

func (noNetworks) Add(context.Context, *api.Assignment) (runtime.Network, string, error) {
	return runtime.Network{}, "10.0.0.2", nil
}
func (noNetworks) Remove(context.Context, api.ProcessID) error { return nil }

type noLogs struct{}

func (noLogs) Ended(api.ProcessID)                                             {}
func (noLogs) Dir(api.ProcessID, api.AppName, api.ServiceName) (string, error) { return "", nil }

// TestCreateGivesWhatIsGranted: a container has its devices, nobody else gets them before it is
// removed, and one that could not be made holds nothing.
func TestCreateGivesWhatIsGranted(t *testing.T) {
	c, e := bench(t)
	one, two := granted("pone", 8080, "/dev/coral1"), granted("ptwo", 8081, "/dev/coral1")
	if _, err := c.Create(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if got := e.Devices("pone"); !slices.Equal(got, []string{"/dev/coral1"}) {
		t.Errorf("it has %q", got)
	}
	if _, err := c.Create(t.Context(), two); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a device that is taken: %v", err)
	}
	if err := c.Remove(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	broken := granted("pbroken", 8081, "/dev/coral1")
	broken.Image.Digest = "sha256:2"
	if _, err := c.Create(t.Context(), broken); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := c.Create(t.Context(), two); err != nil {
		t.Errorf("given back, and not taken by one that failed: %v", err)
	}
}

// TestARefusedGrantFailsTheProcess: the servers learn by a sentence that the node cannot do what
// was planned; of what another process is about to give back, the node says nothing.
func TestARefusedGrantFailsTheProcess(t *testing.T) {
	for name, c := range map[string]struct {
		grant *api.Grant
		says  string
	}{
		"no such device": {granted("pone", 8080, "/dev/coral9").Grant, "device /dev/coral9 is not one of the node"},
		"taken port":     {granted("pone", 8080).Grant, "host port 8080/tcp belongs to process pother"},
	} {
		t.Run(name, func(t *testing.T) {
			engine, _ := bench(t)
			if err := engine.grants.claim("pother", granted("pother", 8080).Grant); err != nil {
				t.Fatal(err)
			}
			l := &lab{claim: func() error { return engine.grants.claim("pone", c.grant) }}
			supervised(t, l, func(_ *supervisor, status func() api.ProcessStatus) {
				time.Sleep(10 * time.Second) // of the bubble
				if st := status(); st.State != api.StateFailed || !strings.Contains(st.Message, c.says) {
					t.Errorf("%s: %q", st.State, st.Message)
				}
			})
			freed := &lab{claim: func() error { return engine.grants.claim("pone", granted("pone", 8080).Grant) }}
			supervised(t, freed, func(_ *supervisor, status func() api.ProcessStatus) {
				time.Sleep(time.Millisecond) // of the bubble
				engine.grants.release("pother")
				time.Sleep(10 * time.Second) // of the bubble
				if st := status(); st.State != api.StateRunning {
					t.Errorf("given back in time: %s: %q", st.State, st.Message)
				}
			})
		})
	}
}

// TestAdoptedProcessesKeepTheirGrants: a new agent lets nobody have what a running process has.
func TestAdoptedProcessesKeepTheirGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fake.New()
		defer e.Close()
		a, err := New(Config{Dir: t.TempDir(), Runtime: e, Networks: noNetworks{}, Logs: noLogs{}, Observer: &lab{}, Now: time.Now, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer a.store.close()
		ctx, stop := context.WithCancel(t.Context())
		defer a.spawned.Wait()
		defer stop()
		ended := Local{Container: true, Clean: true, Status: api.ProcessStatus{State: api.StateExited}}
		a.adoptOne(ctx, record{Assignment: *granted("pclean", 8081), Local: ended}, nil)
		a.adoptOne(ctx, record{Assignment: *granted("prun", 8080), Local: Local{Container: true}}, map[api.ProcessID]runtime.Container{"prun": {ID: "prun", State: runtime.ContainerRunning}})
		if err := a.engine.grants.claim("pnew", granted("pnew", 8080).Grant); api.CodeOf(err) != api.CodeConflict {
			t.Errorf("what a running process has: %v", err)
		}
		if err := a.engine.grants.claim("pnew", granted("pnew", 8081).Grant); err != nil {
			t.Errorf("what an ended one had: %v", err)
		}
	})
}

// TestDiskStaysWhatItWas: what the rack itself stores on a node does not make the node smaller.
func TestDiskStaysWhatItWas(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		what              string
		total, free, want api.Bytes
	}{
		{"first start", 100, 60, 60},
		{"images and logs of the rack", 100, 25, 60},
		{"others made room", 100, 70, 70},
		{"the file system grew", 150, 30, 120},
		{"it shrank", 80, 10, 50},
		{"it is another one, and small", 20, 15, 15},
	} {
		a, err := New(Config{Dir: dir, Node: api.Node{Capacity: api.Amount{Disk: c.free}}, DiskTotal: c.total, Now: time.Now, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.node().Capacity.Disk; got != c.want {
			t.Errorf("%s: capacity %d, want %d", c.what, got, c.want)
		}
		a.store.close()
	}
}
