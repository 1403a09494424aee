package builds

import (
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

func TestABuildBecomesAProcess(t *testing.T) {
	for name, c := range map[string]struct {
		ends *api.ProcessStatus // how the process ends; nil while it runs
		want string             // the failure; "" while the build is open
	}{
		"runs":                  {nil, ""},
		"ended well":            {&api.ProcessStatus{State: api.StateExited}, ""}, // the release is the control service's
		"ended badly":           {&api.ProcessStatus{State: api.StateExited, ExitCode: 1, Message: "RUN make: exit 2"}, "RUN make: exit 2"},
		"failed without a word": {&api.ProcessStatus{State: api.StateFailed}, "its process failed"},
		"lost":                  {&api.ProcessStatus{State: api.StateLost, Message: "n1 is down"}, "its node was lost: n1 is down; build again"},
	} {
		t.Run(name, func(t *testing.T) {
			s, index := state.New(), uint64(0)
			apply := func(cmd state.Command) {
				index++
				if r := s.Apply(index, state.Entry{At: time.Unix(1, 0), Command: cmd}); r.Err != nil || len(r.Dropped) > 0 {
					t.Fatalf("%s: %v %q", cmd.Type(), r.Err, r.Dropped)
				}
			}
			step := func() []state.Command {
				cmds, _ := Step(s.View(), state.Everything(), steps.Input{IDs: api.NewIDs(index)})
				for _, cmd := range cmds {
					apply(cmd)
				}
				return cmds
			}
			apply(state.CreateApp{App: api.App{Name: "shop"}})
			apply(state.RegisterNode{Node: api.Node{ID: "n1", Name: "n1", Capacity: api.Amount{CPU: 4000, Memory: api.GiB}}})
			apply(state.CreateBuild{Build: api.Build{ID: "B1", App: "shop"}})
			step()
			b, _ := s.View().Build("B1")
			p, ok := s.View().Process(b.Process)
			if !ok || b.Status != api.BuildRunning || p.Kind != api.KindBuild || p.Ask != Ask() {
				t.Fatalf("build %+v, process %+v", b, p)
			}
			if cmds := step(); len(cmds) > 0 {
				t.Fatalf("a running build has %+v", cmds)
			}
			apply(state.ApplyPlan{Assign: []api.Assign{{Process: p.ID, Node: "n1"}}})
			if c.ends != nil {
				apply(state.UpdateProcesses{Node: "n1", Statuses: map[api.ProcessID]api.ProcessStatus{p.ID: *c.ends}})
			}
			step()
			if b, _ := s.View().Build("B1"); b.Failure != c.want || b.Status.Ended() != (c.want != "") {
				t.Errorf("the build is %s: %q, want %q", b.Status, b.Failure, c.want)
			}
			if cmds := step(); len(cmds) > 0 {
				t.Errorf("then there is %+v", cmds)
			}
		})
	}
}

// TestAnImportedBuildNeedsNoProcess: its images are there.
func TestAnImportedBuildNeedsNoProcess(t *testing.T) {
	s := state.New()
	for i, cmd := range []state.Command{
		state.CreateApp{App: api.App{Name: "shop"}},
		state.CreateBuild{Build: api.Build{ID: "B1", App: "shop", Images: map[api.ServiceName]api.Image{"web": {Repository: "shop", Digest: "sha256:1"}}}},
	} {
		if r := s.Apply(uint64(i+1), state.Entry{At: time.Unix(1, 0), Command: cmd}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if cmds, _ := Step(s.View(), state.Everything(), steps.Input{IDs: api.NewIDs(1)}); len(cmds) > 0 {
		t.Errorf("it has %+v", cmds)
	}
}
