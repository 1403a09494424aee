package main

import (
	"context"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) restartCommand() *cobra.Command {
	return s.verb(verb{
		use: "restart [SERVICE]", short: "Replace the processes of a service, or of all",
		long: "Replace every process of a service, or of all services, at the pace of a rollout:\n" +
			"no request is dropped.",
		example: "  slipway restart\n  slipway restart web", args: between(0, 1),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			service, what := api.ServiceName(""), string(app)
			if len(args) > 0 {
				service, what = api.ServiceName(args[0]), args[0]
			}
			err = s.step("Restarting "+what, func() (string, error) { return "", rack.Restart(ctx, app, service) })
			if err != nil {
				return err
			}
			return s.print(map[string]any{"app": app, "service": service, "restarted": true}, nothing)
		},
	})
}
