package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

// The patience with a node that drains.
const (
	drainEvery = 300 * time.Millisecond // between two looks
	drainStill = 3 * time.Second        // without a change until it is asked what is waited for
)

func (s *shell) drainCommand() *cobra.Command {
	yes, wait, noWait := false, true, false
	c := s.verb(verb{
		use: "drain NODE", aliases: []string{"terminate"}, names: nodeNames, short: "Move what a node runs elsewhere", args: between(1, 1),
		long: "Move what a node runs elsewhere, at the pace of each service: deployment.minimum and maximum hold as in a\n" +
			"deployment. First it says what becomes of each process, and asks. It ends when nothing runs there any more;\n" +
			"an interrupt ends the wait, not the drain. One-offs and builds run to their end. The node takes nothing new\n" +
			"until: slipway nodes uncordon",
		example: "  slipway nodes drain n3\n  slipway nodes drain n3 --yes --no-wait --reason \"new disk\"",
		run: func(ctx context.Context, args []string) error {
			return s.drain(ctx, args[0], yes, wait && !noWait)
		},
	})
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVarP(&wait, "wait", "w", true, "wait until nothing runs there")
	c.Flags().BoolVar(&noWait, "no-wait", false, "do not wait")
	return c
}

// drained is what --json prints of a drain.
type drained struct {
	Node    api.NodeID    `json:"node"`
	Plan    api.DrainPlan `json:"plan"`
	Drained bool          `json:"drained"` // nothing runs there
}

func (s *shell) drain(ctx context.Context, node string, yes, wait bool) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	info, err := rack.Node(ctx, node)
	if err != nil {
		return err
	}
	n := info.Node
	doc := drained{Node: n.ID, Drained: len(info.Processes) == 0}
	if doc.Plan, err = rack.PlanDrain(ctx, string(n.ID)); err != nil {
		return err
	}
	if err := s.printDrainPlan(ctx, rack, n, doc.Plan); err != nil {
		return err
	}
	if !yes && !n.Draining && len(doc.Plan.Moves) > 0 {
		if err := s.confirm(ctx, fmt.Sprintf("Drain node %s?", n.Name)); err != nil {
			return err
		}
	}
	began := s.now()
	err = s.step("Draining node "+n.Name, func() (string, error) {
		_, err := rack.UpdateNode(ctx, string(n.ID), client.NodeChange{Draining: new(true)})
		return "", err
	})
	if err == nil && wait {
		if err = s.awaitDrained(ctx, rack, info); err == nil {
			doc.Drained = true
			s.say("Node %s is drained (%s); remove it: slipway nodes remove %s, or use it again: slipway nodes uncordon %s", n.Name, took(s.now().Sub(began)), n.ID, n.ID)
		}
	}
	if err != nil {
		return err
	}
	return s.print(doc, nothing)
}

// printDrainPlan says what a drain would do, where progress is told.
func (s *shell) printDrainPlan(ctx context.Context, rack *client.Client, n api.Node, plan api.DrainPlan) error {
	if len(plan.Moves) == 0 {
		s.say("Node %s runs nothing.", n.Name)
		return nil
	}
	nodes, err := rack.Nodes(ctx)
	if err != nil {
		return err
	}
	names := map[api.NodeID]string{}
	for _, other := range nodes {
		names[other.ID] = other.Name
	}
	gone, stuck := map[string]bool{}, 0
	var rows [][]string
	for _, m := range plan.Moves {
		service, downtime, note := string(m.App)+"/"+string(m.Service), "none", m.Reason
		if m.Wait != "" {
			stuck++
			note = strings.TrimPrefix(note+"; "+m.Wait, "; ")
		}
		if m.Downtime {
			gone[service] = true
			downtime = "until there is room"
			if m.To != "" {
				downtime = "up to " + took(m.Expected)
			}
		}
		to := orElse(names[m.To], string(m.To))
		rows = append(rows, []string{string(m.Process), service, string(m.Kind), orElse(to, "-"), downtime, note})
	}
	told := *s
	told.out = s.progress()
	if err := told.table([]string{"PROCESS", "SERVICE", "KIND", "SUCCESSOR ON", "DOWNTIME", "NOTE"}, rows); err != nil {
		return err
	}
	if len(gone) > 0 {
		s.say("%s will not answer for a while.", count(len(gone), "service"))
	}
	if stuck > 0 {
		s.say("%s no place elsewhere; ask why: slipway what-if node drain %s", has(stuck), n.ID)
	}
	return nil
}

func has(copies int) string {
	if copies == 1 {
		return "1 copy has"
	}
	return fmt.Sprintf("%d copies have", copies)
}

// awaitDrained waits until nothing runs on a node, and tells what leaves. A rack that is out of
// reach for a while does not end it.
func (s *shell) awaitDrained(ctx context.Context, rack *client.Client, info api.NodeInfo) error {
	n := info.Node
	w := &drainWatch{s: s, rack: rack, node: n, there: byID(info.Processes), told: map[string]bool{}, moved: s.now()}
	err := s.persist(ctx, true, func(heard func()) error {
		tick := time.NewTicker(drainEvery)
		defer tick.Stop()
		for {
			empty, err := w.look(ctx)
			if err != nil || empty {
				return err
			}
			heard()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
	})
	if ctx.Err() != nil {
		fmt.Fprintf(s.err, "The drain goes on; follow it with: slipway nodes drain %s; call it off with: slipway nodes uncordon %s\n", n.ID, n.ID)
		return ctx.Err()
	}
	return err
}

// drainWatch tells how a drain goes on.
type drainWatch struct {
	s     *shell
	rack  *client.Client
	node  api.Node
	there map[api.ProcessID]api.ProcessInfo
	told  map[string]bool // sentences
	moved time.Time       // when something last changed
}

// look reports whether the node is empty.
func (w *drainWatch) look(ctx context.Context) (bool, error) {
	info, err := w.rack.Node(ctx, string(w.node.ID))
	if err != nil {
		return false, err
	}
	if !info.Node.Draining {
		return false, api.Errorf(api.CodeConflict, "the drain of node %s was called off", w.node.Name)
	}
	there := byID(info.Processes)
	for _, id := range slices.Sorted(maps.Keys(w.there)) {
		if p := w.there[id]; there[id].ID == "" {
			w.moved = w.s.now()
			w.s.say("%s/%s %s has left, %d to go", p.App, p.Service, id, len(there))
		}
	}
	w.there = there
	if len(there) == 0 || w.s.now().Sub(w.moved) < drainStill {
		return len(there) == 0, nil
	}
	w.moved = w.s.now()
	return false, w.explain(ctx)
}

func byID(processes []api.ProcessInfo) map[api.ProcessID]api.ProcessInfo {
	m := map[api.ProcessID]api.ProcessInfo{}
	for _, p := range processes {
		m[p.ID] = p
	}
	return m
}

// explain tells what is waited for, each reason once.
func (w *drainWatch) explain(ctx context.Context) error {
	plan, err := w.rack.PlanDrain(ctx, string(w.node.ID))
	if err != nil {
		return err
	}
	for _, m := range plan.Moves {
		text := fmt.Sprintf("%s/%s %s: %s", m.App, m.Service, m.Process, orElse(m.Wait, m.Reason))
		if (m.Wait != "" || m.Reason != "") && !w.told[text] {
			w.told[text] = true
			w.s.say("Waiting: %s", oneLine(text))
		}
	}
	return nil
}

// confirm asks on a terminal. Elsewhere nobody could answer.
func (s *shell) confirm(ctx context.Context, question string) error {
	if terminal(s.in) == nil {
		return usage("this needs a yes: give --yes, or run it on a terminal")
	}
	fmt.Fprintf(s.err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() { // left behind by an interrupt
		line, _ := bufio.NewReader(s.in).ReadString('\n') // no answer is no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.err)
		return ctx.Err()
	case a := <-answer:
		if a != "y" && a != "yes" {
			return fmt.Errorf("not confirmed; nothing was changed")
		}
		return nil
	}
}
