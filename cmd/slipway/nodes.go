package main

import (
	"context"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) nodesCommand() *cobra.Command {
	return s.verb(verb{
		use: "nodes", aliases: []string{"instances"}, short: "List the nodes of the rack", example: "  slipway nodes",
		long: "List the machines that run processes. CPU and memory are what processes may use.",
		run: func(ctx context.Context, _ []string) error {
			rack, err := s.connect(ctx)
			if err != nil {
				return err
			}
			nodes, err := rack.Nodes(ctx)
			if err != nil {
				return err
			}
			return s.print(nodes, func() error {
				var rows [][]string
				for _, n := range nodes {
					free := n.Available()
					rows = append(rows, []string{
						string(n.ID), n.Name, nodeStatus(n), string(n.Pool), free.CPU.String(), free.Memory.String(),
						s.ago(n.Since), n.Version,
					})
				}
				return s.table([]string{"ID", "NAME", "STATUS", "POOL", "CPU", "MEMORY", "SINCE", "VERSION"}, rows)
			})
		},
	})
}

func nodeStatus(n api.Node) string {
	switch {
	case n.Draining:
		return string(n.Status) + ", draining"
	case n.Cordoned:
		return string(n.Status) + ", cordoned"
	}
	return string(n.Status)
}
