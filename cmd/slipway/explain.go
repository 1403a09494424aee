package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) explainCommand() *cobra.Command {
	return s.verb(verb{
		use: "explain SERVICE", names: serviceNames, short: "Explain where copies of a service can go",
		long: "Show which nodes could take one more copy of a service: how many each rule removes and why, the best\n" +
			"of those that are left with the parts of their scores, and how many more copies there is room for.",
		example: "  slipway explain web\n  slipway explain web -a hello --json", args: between(1, 1),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			e, err := rack.Explain(ctx, app, api.ServiceName(args[0]))
			if err != nil {
				return err
			}
			return s.print(e, func() error { return s.printExplanation(e) })
		},
	})
}

func (s *shell) printExplanation(e api.Explanation) error {
	fits := count(e.Fits, "more copy")
	if e.Fits != 1 {
		fits = fmt.Sprintf("%d more copies", e.Fits)
	}
	if e.Fits == api.FitsMax {
		fits = "at least " + fits
	}
	err := s.block("Service", fmt.Sprintf("%s/%s", e.App, e.Service), "Release", string(e.Release), "Pool", string(e.Pool),
		"Each asks", amount(e.Ask), "Copies", fmt.Sprintf("%d of %d alive", e.Alive, e.Wanted), "Waiting", e.Waiting,
		"Nodes", fmt.Sprintf("%d, of which %d can take one more copy", e.Nodes, e.Candidates), "Fits", fits)
	if err != nil {
		return err
	}
	if len(e.Filters) > 0 {
		var rows [][]string
		for _, f := range e.Filters {
			rows = append(rows, []string{fmt.Sprint(f.Removed), f.Name, f.Text, examples(f)})
		}
		if err := s.table([]string{"REMOVED", "FILTER", "REASON", "NODES"}, rows); err != nil {
			return err
		}
	}
	if len(e.Top) == 0 {
		return nil
	}
	return s.scores(e.Top)
}

// examples names some of the nodes that a filter removed.
func examples(f api.Filter) string {
	var names []string
	for _, n := range f.Nodes {
		names = append(names, string(n))
	}
	if f.Removed > len(names) {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}

// scores prints candidates with what their scores are made of, best first.
func (s *shell) scores(all []api.Score) error {
	var rows [][]string
	for i, score := range all {
		rows = append(rows, []string{fmt.Sprint(i + 1), string(score.Node), fmt.Sprint(score.Total), scoreParts(score)})
	}
	return s.table([]string{"RANK", "NODE", "SCORE", "PARTS"}, rows)
}

func scoreParts(score api.Score) string {
	var parts []string
	for _, p := range score.Parts {
		part := fmt.Sprintf("%s %+d", p.Name, p.Points)
		if p.Text != "" {
			part += " (" + p.Text + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// amount says an amount in one cell.
func amount(a api.Amount) string {
	text := fmt.Sprintf("%s, %s", a.CPU, a.Memory)
	if a.Disk > 0 {
		text += fmt.Sprintf(", %s of disk", a.Disk)
	}
	return text
}

func (s *shell) whyNotCommand() *cobra.Command {
	return s.verb(verb{
		use: "why-not SERVICE NODE", names: serviceNames, second: nodeNames, short: "Explain why a node takes no copy of a service",
		long: "List everything that keeps one more copy of a service off a node, and by how much. Exits with 0 if the\n" +
			"node has room for one, and with 3 if not. NODE is an ID or a name.",
		example: "  slipway why-not web n3", args: between(2, 2),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			w, err := rack.WhyNot(ctx, app, api.ServiceName(args[0]), args[1])
			if err != nil {
				return err
			}
			if err := s.print(w, func() error { return s.printWhyNot(w) }); err != nil {
				return err
			}
			return fitting(len(w.Reasons) == 0)
		},
	})
}

// fitting is the exit code of a question: 3 for what does not fit.
func fitting(fits bool) error {
	if fits {
		return nil
	}
	return &exitError{code: exitConflict}
}

func (s *shell) printWhyNot(w api.WhyNot) error {
	if len(w.Reasons) > 0 {
		if err := s.answer(fmt.Sprintf("Node %s cannot take a copy of %s/%s:", w.Node, w.App, w.Service)); err != nil {
			return err
		}
		var rows [][]string
		for _, r := range w.Reasons {
			rows = append(rows, []string{r.Name, r.Text})
		}
		return s.table([]string{"FILTER", "REASON"}, rows)
	}
	if err := s.answer(fmt.Sprintf("Node %s has room for one more copy of %s/%s.", w.Node, w.App, w.Service)); err != nil {
		return err
	}
	if w.Score == nil || w.Best == nil {
		return nil
	}
	scores := []api.Score{*w.Best}
	if w.Best.Node != w.Node {
		scores = append(scores, *w.Score)
	}
	rows := [][]string{}
	for _, score := range scores {
		rows = append(rows, []string{string(score.Node), fmt.Sprint(score.Total), scoreParts(score)})
	}
	return s.table([]string{"NODE", "SCORE", "PARTS"}, rows)
}
