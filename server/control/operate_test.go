package control_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server"
	"slipway/server/control"
)

// Propose implements control.Store.
func (f *fixture) Propose(_ context.Context, e state.Entry) (state.Result, error) {
	f.index++
	return f.state.Apply(f.index, e), nil
}

// View implements control.Store.
func (f *fixture) View() *state.View { return f.state.View() }

// Linearizable implements control.Store.
func (f *fixture) Linearizable(context.Context) (*state.View, error) { return f.state.View(), nil }

// Next implements control.Store.
func (f *fixture) Next(ctx context.Context, _ uint64) (*state.View, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Subscribe implements control.Store: nothing more happens.
func (f *fixture) Subscribe(context.Context) (*state.View, <-chan raftstore.Update) {
	none := make(chan raftstore.Update)
	close(none)
	return f.state.View(), none
}

// caller is who calls.
type caller struct {
	name  string
	apps  []api.AppName // nil is all
	admin bool
	drawn int
}

func (c *caller) Actor(context.Context) string { return c.name }
func (c *caller) Visible(_ context.Context, app api.AppName) bool {
	return c.apps == nil || slices.Contains(c.apps, app)
}
func (c *caller) Enters(context.Context) bool      { return true }
func (c *caller) Administers(context.Context) bool { return c.admin }
func (c *caller) NewToken() (string, []byte) {
	c.drawn++
	return fmt.Sprint("secret", c.drawn), []byte(fmt.Sprint("hash", c.drawn))
}

func (f *fixture) server(c *caller) *control.Server {
	return control.New(control.Config{
		Store: f, Callers: c, Scheduler: server.Planner{}, Mint: func() uint64 { return f.index }, Now: func() time.Time { return now },
	})
}

// A secret is told once. A call that is repeated does not make another token, and says so.
func TestATokenIsMadeOnce(t *testing.T) {
	f := newFixture(t)
	s, ctx := f.server(&caller{name: "ann", admin: true}), t.Context()
	r := &pb.CreateTokenRequest{Name: "ci", Role: "deployer", Apps: []string{"shop", "shop"}, ExpiresSeconds: 3600, RequestId: "q1"}
	first, err := s.CreateToken(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pb.Unmarshal[api.Token](first.Token)
	if err != nil || token.Name != "ci" || !token.Expires.Equal(now.Add(time.Hour)) || !slices.Equal(token.Apps, []api.AppName{"shop"}) {
		t.Errorf("token %+v: %v", token, err)
	}
	if stored, ok := f.View().TokenByHash([]byte("hash1")); !ok || stored.ID != token.ID || first.Secret != "secret1" {
		t.Errorf("secret %q, stored %+v", first.Secret, stored)
	}
	again, err := s.CreateToken(ctx, r)
	if err = pb.FromError(err); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "told once only") || again != nil {
		t.Errorf("the call again: %v %v", again, err)
	}
	if tokens := slices.Collect(f.View().Tokens()); len(tokens) != 1 || string(tokens[0].Hash) != "hash1" {
		t.Errorf("tokens %+v", tokens)
	}
	for range 2 { // the call again changes nothing
		if _, err := s.DeleteToken(ctx, &pb.TokenRequest{Token: "ci", RequestId: "q2"}); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.DeleteToken(ctx, &pb.TokenRequest{Token: "ci", RequestId: "q3"}); api.CodeOf(pb.FromError(err)) != api.CodeNotFound {
		t.Errorf("a token was deleted twice: %v", err)
	}
	f.apply(state.PutToken{Token: state.Token{ID: "j", Name: "join-agent", Role: "join-agent", Hash: []byte("j")}})
	if _, err := s.DeleteToken(ctx, &pb.TokenRequest{Token: "join-agent"}); api.CodeOf(pb.FromError(err)) != api.CodeConflict {
		t.Errorf("a token of machines was deleted: %v", err)
	}
}

// What is wrong with a token or a label is refused before it is stored.
func TestBadTokensAndLabels(t *testing.T) {
	f := newFixture(t)
	s, ctx := f.server(&caller{name: "ann", admin: true}), t.Context()
	for what, r := range map[string]*pb.CreateTokenRequest{
		"no name":        {Role: "viewer"},
		"a long name":    {Name: strings.Repeat("x", 64), Role: "viewer"},
		"a machine":      {Name: "node/n1", Role: "viewer"},
		"the rack":       {Name: "Rack", Role: "viewer"},
		"a line":         {Name: "a\nb", Role: "viewer"},
		"no role":        {Name: "x"},
		"a machine role": {Name: "x", Role: "join-server"},
		"too short":      {Name: "x", Role: "viewer", ExpiresSeconds: 1},
		"the past":       {Name: "x", Role: "viewer", ExpiresSeconds: -60},
		"too long":       {Name: "x", Role: "viewer", ExpiresSeconds: 1 << 62},
		"scoped admin":   {Name: "x", Role: "admin", Apps: []string{"shop"}},
	} {
		if _, err := s.CreateToken(ctx, r); api.CodeOf(pb.FromError(err)) != api.CodeInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	many := map[string]string{}
	for i := range state.LabelsMax + 1 {
		many[fmt.Sprint("l", i)] = "x"
	}
	for what, r := range map[string]*pb.UpdateNodeRequest{
		"nothing":        {},
		"an empty name":  {Labels: map[string]string{"": "x"}},
		"a strange name": {Labels: map[string]string{"a b": "x"}},
		"a long name":    {Labels: map[string]string{strings.Repeat("a", 64): "x"}},
		"no value":       {Labels: map[string]string{"a": ""}},
		"a long value":   {Labels: map[string]string{"a": strings.Repeat("x", 257)}},
		"a control":      {Labels: map[string]string{"a": "x\x1b[2J"}},
		"set and gone":   {Labels: map[string]string{"a": "x"}, Unlabel: []string{"a"}},
		"too many":       {Labels: many},
	} {
		r.Node = "n1"
		if _, err := s.UpdateNode(ctx, r); err == nil {
			t.Errorf("labels with %s were taken", what)
		}
	}
	if n, _ := f.View().Node("n1"); len(n.Labels) > 0 || len(slices.Collect(f.View().Tokens())) > 0 {
		t.Errorf("labels %v", n.Labels)
	}
	good := &pb.UpdateNodeRequest{Node: "host1", Labels: map[string]string{"topology/zone.a_b-c": "eu west 1"}}
	if _, err := s.UpdateNode(ctx, good); err != nil {
		t.Error(err)
	}
}

// Nodes are found by ID or by a name that is unique.
func TestNodesByName(t *testing.T) {
	f := newFixture(t)
	s, ctx := f.server(&caller{name: "ann"}), t.Context()
	f.apply(state.RegisterNode{Node: api.Node{ID: "n4", Name: "host3", Capacity: api.Amount{CPU: 1, Memory: 1}}})
	for ref, want := range map[string]api.Code{"n3": "", "host2": "", "host3": api.CodeConflict, "host9": api.CodeNotFound, "": api.CodeInvalid} {
		if _, err := s.GetNode(ctx, &pb.NodeRequest{Node: ref}); api.CodeOf(pb.FromError(err)) != want {
			t.Errorf("node %q: %v, want %q", ref, err, want)
		}
	}
	f.run(api.ServiceSpec{Name: "web", Minimum: 50, Maximum: 200}, "n1")
	for _, apps := range [][]api.AppName{nil, {"other"}} {
		s := f.server(&caller{name: "bob", apps: apps})
		d, err := s.GetNode(ctx, &pb.NodeRequest{Node: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		info, err := pb.Unmarshal[api.NodeInfo](d.Json)
		if want := 1 - len(apps); err != nil || len(info.Processes) != want || info.Used.CPU != 100 {
			t.Errorf("a token of %v sees %+v: %v", apps, info, err)
		}
	}
	if _, err := s.RemoveNode(ctx, &pb.NodeRequest{Node: "n1", RequestId: "q1"}); api.CodeOf(pb.FromError(err)) != api.CodeConflict {
		t.Errorf("a node that runs something was removed: %v", err)
	}
	f.apply(state.UpdateNode{Node: "n4", Label: map[string]string{"zone": "a"}})
	for range 2 { // the call again changes nothing
		if _, err := s.RemoveNode(ctx, &pb.NodeRequest{Node: "n4", RequestId: "q2"}); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.RemoveNode(ctx, &pb.NodeRequest{Node: "n4", RequestId: "q3"}); api.CodeOf(pb.FromError(err)) != api.CodeNotFound {
		t.Errorf("a node was removed twice: %v", err)
	}
}

// sent is a stream of events.
type sent struct {
	grpc.ServerStreamingServer[pb.Document]
	ctx context.Context
	got []string
}

func (s *sent) Context() context.Context { return s.ctx }
func (s *sent) Send(d *pb.Document) error {
	e, err := pb.Unmarshal[api.Event](d.Json)
	s.got = append(s.got, e.Type)
	return err
}

// Who asks for the past gets what they may know of.
func TestEventsOfThePast(t *testing.T) {
	f := newFixture(t)
	admin := f.server(&caller{name: "ann", admin: true})
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("slipway-reason", "for%20the%20fair"))
	if _, err := admin.CreateToken(ctx, &pb.CreateTokenRequest{Name: "ci", Role: "viewer"}); err != nil {
		t.Fatal(err)
	}
	f.apply(state.CreateApp{App: api.App{Name: "other"}})
	events := f.View().Events()
	if e := events[len(events)-2]; e.Type != "token.created" || e.Reason != "for the fair" || e.Actor != "ann" {
		t.Errorf("the event is %+v", e)
	}
	joined := []string{"node.joined", "node.joined", "node.joined"}
	for what, c := range map[string]struct {
		who  caller
		r    *pb.EventsRequest
		want []string
	}{
		"everything":     {caller{admin: true}, &pb.EventsRequest{Past: true}, append(joined, "app.created", "token.created", "app.created")},
		"the last":       {caller{admin: true}, &pb.EventsRequest{Past: true, Last: 2}, []string{"token.created", "app.created"}},
		"one app":        {caller{admin: true}, &pb.EventsRequest{Past: true, App: "shop"}, []string{"app.created"}},
		"a viewer":       {caller{}, &pb.EventsRequest{Past: true}, append(joined, "app.created", "app.created")},
		"a scoped token": {caller{apps: []api.AppName{"shop"}}, &pb.EventsRequest{Past: true}, append(joined, "app.created")},
		"too late":       {caller{admin: true}, &pb.EventsRequest{Past: true, Since: now.Add(time.Second).UnixNano()}, nil},
		"in time":        {caller{admin: true}, &pb.EventsRequest{Past: true, Since: now.UnixNano(), Last: 1}, []string{"app.created"}},
		"after":          {caller{admin: true}, &pb.EventsRequest{Past: true, After: events[len(events)-2].Index}, []string{"app.created"}},
	} {
		stream := &sent{ctx: t.Context()}
		if err := f.server(&c.who).Events(c.r, stream); err != nil || !slices.Equal(stream.got, c.want) {
			t.Errorf("%s: %q, want %q: %v", what, stream.got, c.want, err)
		}
	}
}
