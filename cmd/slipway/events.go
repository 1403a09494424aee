package main

import (
	"context"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) eventsCommand() *cobra.Command {
	all := false
	c := s.verb(verb{
		use: "events", short: "Follow what happens to an app, or in the rack",
		long:    "Print events as they happen, until interrupted: who did what, and what the rack did about it.",
		example: "  slipway events\n  slipway events --all --json",
		run: func(ctx context.Context, _ []string) error {
			app := api.AppName("")
			if !all {
				var err error
				if app, err = s.appIn("."); err != nil {
					return err
				}
			}
			rack, err := s.connect(ctx)
			if err != nil {
				return err
			}
			return rack.Events(ctx, app, 0, func(e api.Event) error {
				if s.json {
					return s.row(e)
				}
				return s.table([]string{e.At.UTC().Format(stampLayout), e.Type, string(e.App), e.Object, e.Actor, e.Message}, nil)
			})
		},
	})
	c.Flags().BoolVar(&all, "all", false, "of the whole rack, not of one app")
	return c
}
