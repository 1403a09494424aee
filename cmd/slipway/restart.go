package main

import (
	"context"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) restartCommand() *cobra.Command {
	return s.restartVerb(verb{
		use: "restart [SERVICE]", short: "Replace the processes of a service, or of all", args: between(0, 1),
		example: "  slipway restart\n  slipway restart web",
	})
}

// restartVerb is `restart` and `services restart` alike.
func (s *shell) restartVerb(v verb) *cobra.Command {
	wait := true
	v.names = serviceNames
	v.long = "Replace every process of a service, or of all services, at the pace of a rollout:\n" +
		"no request is dropped. Ends when the new ones are ready and the old ones are gone."
	v.run = func(ctx context.Context, args []string) error {
		return s.restart(ctx, api.ServiceName(first(args)), wait)
	}
	c := s.verb(v)
	c.Flags().BoolVarP(&wait, "wait", "w", true, "wait until every process was replaced")
	return c
}

func (s *shell) restart(ctx context.Context, service api.ServiceName, wait bool) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	err = s.step("Restarting "+orElse(string(service), string(app)), func() (string, error) {
		old, err := s.copies(ctx, rack, app, service)
		if err != nil {
			return "", err
		}
		if err := rack.Restart(ctx, app, service); err != nil || !wait {
			return "", err
		}
		return "", s.reach(ctx, rack, app, service, old)
	})
	if err != nil {
		return err
	}
	return s.print(map[string]any{"app": app, "service": service, "restarted": true}, nothing)
}
