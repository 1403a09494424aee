package control_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/keyring"
	"slipway/raftstore/state"
	"slipway/server"
	"slipway/server/control"
)

// rivals is a store on which somebody else may come between what a call reads and what it writes,
// as another server does that has become the leader.
type rivals struct {
	mu sync.Mutex
	*fixture

	// between comes before a command; nil does nothing.
	between func(state.Command)
	moved   chan struct{} // told of every write
}

// Propose implements control.Store.
func (r *rivals) Propose(ctx context.Context, e state.Entry) (state.Result, error) {
	if b := r.between; b != nil {
		b(e.Command)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	res, err := r.fixture.Propose(ctx, e)
	select {
	case r.moved <- struct{}{}:
	default:
	}
	return res, err
}

// View implements control.Store.
func (r *rivals) View() *state.View {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fixture.View()
}

// Linearizable implements control.Store.
func (r *rivals) Linearizable(context.Context) (*state.View, error) { return r.View(), nil }

// Next implements control.Store.
func (r *rivals) Next(ctx context.Context, after uint64) (*state.View, error) {
	for {
		if v := r.View(); v.Index() > after {
			return v, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.moved:
		}
	}
}

// once makes something happen before the first command of a type.
func (r *rivals) once(typ string, do func()) {
	done := false
	r.between = func(cmd state.Command) {
		if cmd.Type() == typ && !done {
			done = true
			do()
		}
	}
}

func newRivals(t *testing.T) (*rivals, *control.Server) {
	t.Helper()
	keys, err := keyring.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := &rivals{fixture: newFixture(t), moved: make(chan struct{}, 1)}
	var mint sync.Mutex
	n := uint64(0)
	s := control.New(control.Config{
		Store: r, Keyring: keys, Callers: &caller{name: "ann"}, Scheduler: server.Planner{},
		Mint: func() uint64 { mint.Lock(); defer mint.Unlock(); n++; return n },
		Now:  func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	})
	return r, s
}

func env(t *testing.T, s *control.Server) map[string]string {
	t.Helper()
	got, err := s.GetEnv(t.Context(), &pb.ObjectRequest{App: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetEnv()
}

func set(s *control.Server, ctx context.Context, name, value, ifRelease string) error {
	_, err := s.SetEnv(ctx, &pb.SetEnvRequest{App: "shop", Set: map[string]string{name: value}, IfRelease: ifRelease})
	return pb.FromError(err)
}

// Of changes of an environment at once, none is lost, whichever server took them.
func TestNoChangeOfTheEnvironmentIsLost(t *testing.T) {
	r, s := newRivals(t)
	r.once("create_release", func() {
		if err := set(s, t.Context(), "THEIRS", "1", ""); err != nil {
			t.Error(err)
		}
	})
	if err := set(s, t.Context(), "MINE", "1", ""); err != nil {
		t.Fatal(err)
	}
	if got := env(t, s); !maps.Equal(got, map[string]string{"THEIRS": "1", "MINE": "1"}) {
		t.Errorf("the environment is %v", got)
	}

	r.between = nil
	var all sync.WaitGroup
	want := map[string]string{"THEIRS": "1", "MINE": "1"}
	for i := range 16 {
		name := fmt.Sprint("N", i)
		want[name] = "x"
		all.Go(func() {
			if err := set(s, t.Context(), name, "x", ""); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Wait()
	if got := env(t, s); !maps.Equal(got, want) {
		t.Errorf("the environment is %v", got)
	}
}

// Who says which release a change was worked out from is refused when it is not the newest, even if
// it stopped being so a moment ago.
func TestAChangeOfOneReleaseOnly(t *testing.T) {
	r, s := newRivals(t)
	for _, step := range []struct {
		release string
		want    api.Code
	}{{"v1", api.CodeNotFound}, {"none", ""}, {"none", api.CodeConflict}, {"v1", ""}, {"v1", api.CodeConflict}} {
		if err := set(s, t.Context(), "A", fmt.Sprint(r.index), step.release); api.CodeOf(err) != step.want {
			t.Errorf("if %s is the newest: %v, want %q", step.release, err, step.want)
		}
	}
	before := env(t, s)["A"]
	r.once("create_release", func() {
		if err := set(s, t.Context(), "B", "theirs", ""); err != nil {
			t.Error(err)
		}
	})
	err := set(s, t.Context(), "A", "mine", "v2")
	if api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "(v3)") {
		t.Errorf("a change of v2, when v3 came in between: %v", err)
	}
	if got := env(t, s); got["A"] != before || got["B"] != "theirs" {
		t.Errorf("the environment is %v", got)
	}
}

// A build that ends while somebody sets a variable takes it along.
func TestABuildTakesWhatCameBetween(t *testing.T) {
	r, s := newRivals(t)
	if err := set(s, t.Context(), "A", "old", ""); err != nil {
		t.Fatal(err)
	}
	spec := api.ServiceSpec{Name: "web", Image: "x"}
	r.apply(state.CreateBuild{Build: api.Build{ID: "B1", App: "shop", Manifest: "services:\n  web:\n    image: x\n", Services: []api.ServiceSpec{spec}}})
	r.apply(state.CreateProcess{Process: api.Process{ID: "pb", App: "shop", Service: "build", Kind: api.KindBuild, Build: "B1"}})
	r.apply(state.StartBuild{Build: "B1", Process: "pb"})
	r.apply(state.ApplyPlan{Assign: []api.Assign{{Process: "pb", Node: "n1"}}})
	r.apply(state.UpdateProcesses{Node: "n1", Statuses: map[api.ProcessID]api.ProcessStatus{
		"pb": {State: api.StateExited, Images: map[api.ServiceName]api.Image{"web": {Digest: "sha256:1"}}},
	}})
	r.once("end_build", func() {
		if err := set(s, t.Context(), "A", "new", ""); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.RunFinisher(ctx) }()
	v, err := r.Linearizable(ctx)
	for err == nil {
		if b, _ := v.Build("B1"); b.Status.Ended() {
			break
		}
		v, err = r.Next(ctx, v.Index())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	b, _ := v.Build("B1")
	newest, _ := v.Release(b.Release)
	if b.Status != api.BuildComplete || newest == nil || newest.Number != 3 {
		t.Fatalf("build %s %q, release %+v", b.Status, b.Failure, newest)
	}
	if got := env(t, s); got["A"] != "new" {
		t.Errorf("the environment of the build's release is %v", got)
	}
}

// Two who change different parts of a scale at once both get what they asked for.
func TestNoPartOfAScaleIsLost(t *testing.T) {
	r, s := newRivals(t)
	r.run(api.ServiceSpec{Name: "web", Minimum: 50, Maximum: 200}, "n1")
	memory, count := int64(256*api.MiB), int32(3)
	r.once("set_scale", func() {
		if _, err := s.Scale(t.Context(), &pb.ScaleRequest{App: "shop", Service: "web", Memory: &memory}); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.Scale(t.Context(), &pb.ScaleRequest{App: "shop", Service: "web", Count: &count}); err != nil {
		t.Fatal(err)
	}
	service, _ := r.View().Service(api.ServiceKey{App: "shop", Service: "web"})
	if o := service.Override; o == nil || o.Count == nil || *o.Count != 3 || o.Memory != 256*api.MiB {
		t.Errorf("the override is %+v", o)
	}
}

// A promotion is judged by the release that is active when it takes effect.
func TestAPromotionIsJudgedByWhatIsActive(t *testing.T) {
	r, s := newRivals(t)
	release := func(id api.ReleaseID) {
		spec := api.ServiceSpec{Name: "web", Image: "x"}
		r.apply(state.CreateRelease{Release: api.Release{ID: id, App: "shop", Build: "B", Manifest: "services:\n  web:\n    image: x\n", Services: []api.ServiceSpec{spec}}})
	}
	release("R1")
	release("R2")
	r.once("create_deployment", func() {
		r.apply(state.CreateDeployment{Deployment: api.Deployment{ID: "D2", App: "shop", Release: "R2"}})
		r.apply(state.UpdateDeployment{Deployment: api.Deployment{ID: "D2", Status: api.DeploySucceeded}})
	})
	_, err := s.Promote(t.Context(), &pb.ObjectRequest{App: "shop", Id: "R1"})
	if err = pb.FromError(err); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "older than the active release R2") {
		t.Errorf("R1 was promoted over R2: %v", err)
	}
	if _, err := s.Promote(t.Context(), &pb.ObjectRequest{App: "shop", Id: "R2"}); err != nil {
		t.Error(err)
	}
}
