package raftstore

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"slipway/api"
	"slipway/raftstore/state"
)

func drawPlan(t *rapid.T) state.ApplyPlan {
	name := rapid.SampledFrom([]string{"web", "shop", "R1", "ä\x00\n", ""})
	p := state.ApplyPlan{Index: rapid.Uint64().Draw(t, "index")}
	for range rapid.IntRange(0, 3).Draw(t, "groups") {
		g := api.Group{
			Key:     api.ServiceKey{App: api.AppName(name.Draw(t, "app")), Service: api.ServiceName(name.Draw(t, "service"))},
			Release: api.ReleaseID(name.Draw(t, "release")),
			Ask:     api.Amount{CPU: api.MilliCPU(rapid.Int64().Draw(t, "cpu")), Memory: api.Bytes(rapid.Int64().Draw(t, "mem")), Disk: api.Bytes(rapid.Int64().Draw(t, "disk"))},
			Copies:  []api.Copy{},
		}
		for range rapid.IntRange(0, 4).Draw(t, "copies") {
			c := api.Copy{
				ID: api.ProcessID(rapid.String().Draw(t, "id")), Slot: rapid.Int().Draw(t, "slot"), Node: api.NodeID(name.Draw(t, "node")),
				Attempt: rapid.Int().Draw(t, "attempt"), Cause: name.Draw(t, "cause"),
			}
			if rapid.Bool().Draw(t, "granted") {
				c.Grant = &api.Grant{HostPorts: []api.HostPort{{Host: 80, Port: 8080, Protocol: api.TCP}}, Devices: []string{"/dev/kvm"}}
			}
			g.Copies = append(g.Copies, c)
		}
		p.Place = append(p.Place, g)
	}
	if rapid.Bool().Draw(t, "stops") {
		p.Stop = []api.Stop{{Process: "p1", Reason: "too many"}}
		p.Assign = []api.Assign{{Process: "p2", Node: "n1"}}
		p.Waiting = map[api.ServiceKey]string{{App: "shop", Service: "web"}: "no room"}
	}
	return p
}

func TestPlansSurviveTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		b, err := Encode([]state.Entry{{At: time.Unix(1, 0).UTC(), Actor: "rack", Command: p}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got[0].Command, state.Command(p)) {
			t.Fatalf("%+v\ncame back as\n%+v", p, got[0].Command)
		}
	})
}

// A body cut off anywhere, or with any byte changed, is an error or another plan, never a panic
// or an allocation that does not fit its size.
func FuzzPlan(f *testing.F) {
	p := state.ApplyPlan{Index: 7, Place: []api.Group{{
		Key: api.ServiceKey{App: "shop", Service: "web"}, Release: "R1", Ask: api.Amount{CPU: 100, Memory: api.GiB},
		Copies: []api.Copy{{ID: "p1", Slot: 1, Node: "n1", Cause: "a copy was missing", Grant: &api.Grant{Devices: []string{"d"}}}, {ID: "p2", Slot: 2, Node: "n2"}},
	}}}
	b, err := encodePlan(p)
	if err != nil {
		f.Fatal(err)
	}
	for i := range b {
		f.Add(b[:i])
	}
	f.Add(b)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodePlan(b); err == nil {
			if _, err := encodePlan(p); err != nil {
				t.Fatalf("a plan that was read cannot be written: %v", err)
			}
		}
	})
}

// What an older version wrote is still read.
func TestPlansOfVersion1(t *testing.T) {
	got, err := present.decodeBody("apply_plan", 1, []byte(`{"Index": 3, "Stop": [{"process": "p1", "reason": "r"}]}`))
	want := state.ApplyPlan{Index: 3, Stop: []api.Stop{{Process: "p1", Reason: "r"}}}
	if err != nil || !reflect.DeepEqual(got, state.Command(want)) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := present.decodeBody("apply_plan", present.newest+1, nil); err == nil {
		t.Error("a newer version was read")
	}
}
