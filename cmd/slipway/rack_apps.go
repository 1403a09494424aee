package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"slipway/api/client"
)

// rackPsCommand is `ps --rack-wide` by the name that Convox has for it.
func (s *shell) rackPsCommand() *cobra.Command {
	f := client.ProcessFilter{}
	c := s.verb(verb{
		use: "ps", short: "List the processes of all apps", long: "List the processes of all apps, as ps --rack-wide does.",
		example: "  slipway rack ps", run: func(ctx context.Context, _ []string) error { return s.listProcesses(ctx, f, true) },
	})
	c.Flags().BoolVar(&f.All, "all", false, "also those that have ended")
	return c
}

// rackLogsCommand is `events --all` with the flags of logs.
func (s *shell) rackLogsCommand() *cobra.Command {
	since, follow, noFollow, filter := 2*time.Minute, true, false, ""
	var c *cobra.Command
	c = s.verb(verb{
		use: "logs", short: "Print and follow what happens in the rack",
		long: "Print what happened in the rack lately, and follow it: who did what and why, and what the rack did about it.\n" +
			"What apps wrote is in: slipway logs",
		example: "  slipway rack logs\n  slipway rack logs --since 30m --no-follow",
		run: func(ctx context.Context, _ []string) error {
			switch {
			case noFollow && c.Flags().Changed("follow"):
				return usage("--follow and --no-follow exclude one another")
			case since <= 0:
				return usage("--since takes a time such as 1h, got %s", since)
			}
			return s.events(ctx, client.EventQuery{Since: s.now().Add(-since), Past: noFollow || !follow}, filter)
		},
	})
	c.Flags().StringVar(&filter, "filter", "", "only lines that contain this text")
	c.Flags().DurationVar(&since, "since", since, "how far back to begin")
	c.Flags().BoolVarP(&follow, "follow", "f", follow, "go on with what comes")
	c.Flags().BoolVar(&noFollow, "no-follow", false, "end after what there is")
	return c
}
