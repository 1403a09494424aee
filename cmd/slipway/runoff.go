package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) runCommand() *cobra.Command {
	r := client.Run{}
	c := s.verb(verb{
		use: "run SERVICE [-- COMMAND...]", short: "Run a one-off process",
		long: "Run a command in a new process with the image and environment of a service. The process belongs to the\n" +
			"rack: it is stopped when nobody has been attached for a minute, unless it is detached. The exit code is\n" +
			"that of the process.",
		example: "  slipway run web -- bin/migrate\n  slipway run web --release v3 -- sh\n  slipway run worker --detach -- bin/reindex",
		args:    between(1, -1),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			r.Service, r.Command = api.ServiceName(args[0]), args[1:]
			if r.Detach {
				return s.runDetached(ctx, rack, app, r)
			}
			c := s.console()
			r.TTY, r.Size = c.tty, c.size
			p, err := rack.Run(ctx, app, r)
			if err != nil {
				return err
			}
			return s.converse(ctx, c, func(ctx context.Context, streams client.Streams) (int, error) {
				return rack.Attach(ctx, app, p.ID, streams)
			})
		},
	})
	c.Flags().BoolVarP(&r.Detach, "detach", "d", false, "do not attach; the process lives until it exits or the time is up")
	c.Flags().StringVar(&r.Release, "release", "", "of this release instead of the active one")
	c.Flags().DurationVarP(&r.Timeout, "timeout", "t", time.Hour, "how long the process may live")
	return c
}

func (s *shell) runDetached(ctx context.Context, rack *client.Client, app api.AppName, r client.Run) error {
	var p api.ProcessInfo
	err := s.step("Running detached process", func() (string, error) {
		var err error
		p, err = rack.Run(ctx, app, r)
		return string(p.ID), err
	})
	if err != nil {
		return err
	}
	return s.print(p, nothing)
}
