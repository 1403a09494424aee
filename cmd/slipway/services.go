package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (s *shell) servicesCommand() *cobra.Command {
	list := func(ctx context.Context, _ []string) error { return s.listServices(ctx) }
	c := s.verb(verb{
		use: "services", short: "List and restart the services of an app", example: "  slipway services -a hello", run: list,
		long: "List the services of the active release: where they answer, and how many copies are ready.",
	})
	c.AddCommand(
		s.verb(verb{
			use: "list", short: "List services", long: "List the services of the active release.", example: "  slipway services list", run: list,
		}),
		s.restartVerb(verb{
			use: "restart SERVICE", short: "Replace the processes of a service", example: "  slipway services restart web", args: between(1, 1),
		}),
	)
	return c
}

func (s *shell) listServices(ctx context.Context) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	services, err := rack.Services(ctx, app)
	if err != nil {
		return err
	}
	return s.print(services, func() error {
		var rows [][]string
		for _, v := range services {
			rows = append(rows, []string{
				string(v.Name), v.Domain, strings.Join(v.Ports, " "), fmt.Sprintf("%d/%d", v.Ready, v.Count), v.URL,
			})
		}
		return s.table([]string{"SERVICE", "DOMAIN", "PORTS", "READY", "URL"}, rows)
	})
}
