package main

import (
	"context"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) execCommand() *cobra.Command {
	return s.verb(verb{
		use: "exec PROCESS|SERVICE -- COMMAND...", names: entryNames, short: "Run a command in a running process",
		long: "Run a command beside a running process, in its container. A service stands for any ready process of it.\n" +
			"On a terminal the command gets one. The exit code is that of the command.\n" +
			"A command in one pair of quotes is read as in a manifest.",
		example: "  slipway exec web -- sh\n  slipway exec pabcdefghij -- cat /etc/hosts", args: between(2, -1),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			words, err := command(args[1:])
			if err != nil {
				return err
			}
			c := s.console()
			// The rack knows whether the name is a process or a service.
			e := client.Exec{
				Process: api.ProcessID(args[0]), Service: api.ServiceName(args[0]), Command: words, TTY: c.tty, Size: c.size,
			}
			return s.converse(ctx, c, func(ctx context.Context, streams client.Streams) (int, error) {
				return rack.Exec(ctx, app, e, streams)
			})
		},
	})
}
