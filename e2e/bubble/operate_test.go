package bubble

import (
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/client"
)

// running returns how many containers of a machine run.
func (m *machine) running() (n int) {
	list, err := m.engine.List(m.rack.ctx)
	if err != nil {
		m.rack.t.Fatal(err)
	}
	for _, c := range list {
		if c.State == "running" {
			n++
		}
	}
	return n
}

// A node that went silent and was removed ends what it runs when it comes back, and is not let in:
// others have taken the place of its processes.
func TestARemovedNodeEndsWhatItRuns(t *testing.T) {
	inBubble(t, []string{"n1", "n2"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(4, "")))
		m := r.machines["n1"]
		m.stop() // the agent; what it started goes on
		if m.running() == 0 {
			t.Fatalf("nothing runs on n1:\n%s", r.picture())
		}
		if err := r.RemoveNode(r.ctx, "n1"); api.CodeOf(err) != api.CodeConflict {
			t.Errorf("a node that runs something was removed: %v", err)
		}
		r.await("n1 is down", 5*time.Minute, func() bool {
			n, err := r.Node(r.ctx, "n1")
			return err == nil && n.Node.Status == api.NodeDown
		})
		if err := r.RemoveNode(client.WithReason(r.ctx, "it burned"), "n1"); err != nil {
			t.Fatal(err)
		}
		m.startAgent()
		r.await("what ran on n1 has ended", time.Minute, func() bool { return m.running() == 0 })
		time.Sleep(time.Minute) // virtual
		if _, err := r.Node(r.ctx, "n1"); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("n1 is let in again: %v", err)
		}
		ready := 0
		for _, p := range r.processes("shop") {
			if p.Node == "n2" && p.Ready {
				ready++
			}
		}
		if ready != 4 || r.machines["n2"].running() != 4 {
			t.Errorf("%d copies are ready, %d run:\n%s", ready, r.machines["n2"].running(), r.picture())
		}
		var told []string
		err := r.Events(r.ctx, client.EventQuery{Last: 1000, Past: true}, func(e api.Event) error {
			if strings.HasPrefix(e.Type, "node.") && e.Object == "n1" {
				told = append(told, e.Type+" by "+e.Actor+": "+e.Reason)
			}
			return nil
		})
		if want := []string{"node.joined by node/n1: ", "node.down by rack: ", "node.removed by admin: it burned"}; err != nil || !slices.Equal(told, want) {
			t.Errorf("the record of n1: %q, want %q: %v", told, want, err)
		}
	})
}

// A drain moves copies elsewhere without a copy less that serves; the node runs nothing afterwards,
// can be removed while its agent is attached, and its agent does not come back in.
func TestADrainedNodeCanGo(t *testing.T) {
	inBubble(t, []string{"n1", "n2"}, func(r *rack) {
		succeeded(r, r.deploy("shop", strings.Replace(manifest(4, ""), "minimum: 50", "minimum: 100", 1)))
		plan, err := r.PlanDrain(r.ctx, "n1")
		if err != nil || len(plan.Moves) == 0 {
			t.Fatalf("the plan is %+v: %v", plan, err)
		}
		for _, move := range plan.Moves {
			if move.To != "n2" || move.Downtime || move.Wait != "" {
				t.Errorf("the plan says %+v", move)
			}
		}
		if _, err := r.UpdateNode(r.ctx, "n1", client.NodeChange{Draining: new(true)}); err != nil {
			t.Fatal(err)
		}
		least := 4
		r.await("n1 is empty", 5*time.Minute, func() bool {
			ready := 0
			for _, p := range r.processes("shop") {
				if p.Ready {
					ready++
				}
			}
			least = min(least, ready)
			n, err := r.Node(r.ctx, "n1")
			return err == nil && len(n.Processes) == 0
		})
		if least < 4 {
			t.Errorf("%d of 4 copies were ready in between", least)
		}
		if err := r.RemoveNode(r.ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // virtual: the session ends, the agent tries again
		if nodes, err := r.Nodes(r.ctx); err != nil || len(nodes) != 1 || r.machines["n1"].running() != 0 {
			t.Errorf("%d nodes, %d containers on n1: %v", len(nodes), r.machines["n1"].running(), err)
		}
	})
}
