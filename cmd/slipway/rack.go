package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (s *shell) rackCommand() *cobra.Command {
	return s.verb(verb{
		use: "rack", short: "Describe the rack", example: "  slipway rack\n  slipway rack -r production --json",
		long: "Describe the rack: its domain, its machines, and how much of them is reserved.",
		run: func(ctx context.Context, _ []string) error {
			rack, err := s.connect(ctx)
			if err != nil {
				return err
			}
			info, err := rack.Rack(ctx)
			if err != nil {
				return err
			}
			return s.print(info, func() error {
				return s.block("Name", info.Name, "Domain", info.Domain, "Status", info.Status, "Version", info.Version,
					"Servers", fmt.Sprint(info.Servers), "Nodes", fmt.Sprint(info.Nodes), "Apps", fmt.Sprint(info.Apps),
					"Processes", fmt.Sprint(info.Processes),
					"CPU", fmt.Sprintf("%s of %s reserved", info.Used.CPU, info.Capacity.CPU),
					"Memory", fmt.Sprintf("%s of %s reserved", info.Used.Memory, info.Capacity.Memory))
			})
		},
	})
}
