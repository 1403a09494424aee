package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (s *shell) servicesCommand() *cobra.Command {
	return s.verb(verb{
		use: "services", short: "List the services of an app", example: "  slipway services -a hello",
		long: "List the services of the active release: where they answer, and how many copies are ready.",
		run: func(ctx context.Context, _ []string) error {
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
		},
	})
}
