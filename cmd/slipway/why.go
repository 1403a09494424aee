package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) whyCommand() *cobra.Command {
	return s.verb(verb{
		use: "why [PROCESS|SERVICE|RELEASE|DEPLOYMENT|BUILD]", names: objectNames, short: "Explain why something is as it is",
		long: "Tell the chain of causes of an object, newest first: what happened to it, what it replaced, which\n" +
			"deployment asked for it and who made that. Without an argument, of the newest deployment.",
		example: "  slipway why\n  slipway why web\n  slipway why pabcdefghij", args: between(0, 1),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			w, err := rack.Why(ctx, app, first(args))
			if err != nil {
				return err
			}
			return s.print(w, func() error { return s.printWhy(w) })
		},
	})
}

func (s *shell) printWhy(w api.Why) error {
	if err := s.answer(clean(fmt.Sprintf("%s: %s", w.Object, w.Status))); err != nil {
		return err
	}
	var rows [][]string
	for _, c := range w.Causes {
		rows = append(rows, []string{s.ago(c.At), c.Object, c.Text})
	}
	if len(rows) > 0 {
		if err := s.table([]string{"WHEN", "WHAT", "CAUSE"}, rows); err != nil {
			return err
		}
	}
	if w.Failed != nil {
		if err := s.answer("Evidence:"); err != nil {
			return err
		}
		s.evidence(s.out, w.Failed)
	}
	if w.Receipt == nil {
		return nil
	}
	return s.answer(receipt(w.Receipt))
}

// receipt tells the proof of a deployment.
func receipt(r *api.Receipt) string {
	verified := "not verified"
	if r.Verified {
		verified = "verified"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Receipt: %s, %s", verified, took(r.Took))
	for _, service := range r.Services {
		fmt.Fprintf(&b, "\n  %s  %d/%d ready, %d started, %d stopped", service.Service, service.Ready, service.Count,
			len(service.Started)+service.MoreStarted, len(service.Stopped)+service.MoreStopped)
		forced := 0
		for _, p := range service.Stopped {
			if p.Forced {
				forced++
			}
		}
		if forced > 0 {
			fmt.Fprintf(&b, ", %d with requests in flight", forced)
		}
	}
	return b.String()
}
