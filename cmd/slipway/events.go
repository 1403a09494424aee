package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) eventsCommand() *cobra.Command {
	all, follow, since, last := false, false, time.Duration(0), 0
	c := s.verb(verb{
		use: "events", short: "Show what happened, or follow what happens",
		long: "Print events as they happen, until interrupted: who did what and why, and what the rack did about it.\n" +
			"--since and --last print those of the past instead, and --follow goes on after them. The rack keeps the\n" +
			"last 1000 that users caused, and as many others: of apps, deployments, builds and nodes, not of processes.",
		example: "  slipway events\n  slipway events --all --last 50\n  slipway events --all --since 1h --json",
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		q := client.EventQuery{Last: last}
		past := c.Flags().Changed("last") || c.Flags().Changed("since")
		switch {
		case c.Flags().Changed("last") && last < 1:
			return usage("--last takes a number from 1 on, got %d", last)
		case c.Flags().Changed("since") && since <= 0:
			return usage("--since takes a time such as 1h, got %s", since)
		case since > 0:
			q.Since = s.now().Add(-since)
		}
		q.Past = past && !follow
		if !all {
			var err error
			if q.App, err = s.appIn("."); err != nil {
				return err
			}
		}
		return s.events(c.Context(), q, "")
	}
	c.Flags().BoolVar(&all, "all", false, "of the whole rack, not of one app")
	c.Flags().DurationVar(&since, "since", 0, "those of the past, so far back")
	c.Flags().IntVar(&last, "last", 0, "those of the past, so many")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on after those of the past")
	return c
}

// events prints events, those whose line holds a text.
func (s *shell) events(ctx context.Context, q client.EventQuery, filter string) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	return rack.Events(ctx, q, func(e api.Event) error {
		message := e.Message
		if e.Reason != "" {
			if message != "" {
				message += ", "
			}
			message += "because: " + e.Reason
		}
		line := []string{e.At.UTC().Format(stampLayout), e.Type, orElse(string(e.App), "-"), e.Object, e.Actor, message}
		switch {
		case !strings.Contains(strings.Join(line, " "), filter):
			return nil
		case s.json:
			return s.row(e)
		}
		return s.table(line, nil)
	})
}
