package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) capacityCommand() *cobra.Command {
	return s.verb(verb{
		use: "capacity", short: "Show the room of every pool", example: "  slipway capacity",
		long: "Show for every pool what its nodes have for processes, what of it is used, what is reserved for the\n" +
			"system beside that, and the largest free slot: the room of the node with most free memory.",
		run: func(ctx context.Context, _ []string) error {
			rack, err := s.connect(ctx)
			if err != nil {
				return err
			}
			pools, err := rack.Capacity(ctx)
			if err != nil {
				return err
			}
			return s.print(pools, func() error { return s.printCapacity(pools) })
		},
	})
}

func (s *shell) printCapacity(pools []api.Capacity) error {
	var rows [][]string
	for _, c := range pools {
		largest := "none"
		if c.On != "" {
			largest = fmt.Sprintf("%s on %s", amount(c.Largest), c.On)
		}
		rows = append(rows, []string{
			string(c.Pool), string(c.Strategy), fmt.Sprintf("%d of %d", c.Eligible, c.Nodes),
			fmt.Sprintf("%g of %s", float64(c.Used.CPU)/1000, c.Total.CPU), fmt.Sprintf("%s of %s", c.Used.Memory, c.Total.Memory),
			fmt.Sprintf("%s of %s", c.Used.Disk, c.Total.Disk), amount(c.Reserved), largest,
		})
	}
	return s.table([]string{"POOL", "STRATEGY", "ELIGIBLE", "CPU USED", "MEMORY USED", "DISK USED", "RESERVED", "LARGEST FREE"}, rows)
}

func (s *shell) poolsCommand() *cobra.Command {
	list := func(ctx context.Context, _ []string) error { return s.listPools(ctx) }
	c := s.verb(verb{
		use: "pools", short: "List pools and say how they are filled", run: list, example: "  slipway pools\n  slipway pools set front --strategy spread",
		long: "List the pools: named groups of nodes that services can ask for.",
	})
	strategy := ""
	set := s.verb(verb{
		use: "set NAME", names: poolNames, short: "Say how a pool is filled", args: between(1, 1),
		long: "Say how new processes fill the nodes of a pool: binpack prefers the fullest node with room, spread the\n" +
			"emptiest. What runs already stays where it is.",
		example: "  slipway pools set front --strategy spread",
		run: func(ctx context.Context, args []string) error {
			if strategy != string(api.BinPack) && strategy != string(api.EvenOut) {
				return usage("--strategy takes %s or %s, got %q", api.BinPack, api.EvenOut, strategy)
			}
			return s.setPool(ctx, api.Pool{Name: api.PoolName(args[0]), Strategy: api.Strategy(strategy)})
		},
	})
	set.Flags().StringVar(&strategy, "strategy", "", "binpack or spread")
	c.AddCommand(
		s.verb(verb{use: "list", short: "List pools", long: "List the pools.", example: "  slipway pools list", run: list}), set,
	)
	return c
}

func (s *shell) listPools(ctx context.Context) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	pools, err := rack.Pools(ctx)
	if err != nil {
		return err
	}
	return s.print(pools, func() error {
		var rows [][]string
		for _, p := range pools {
			rows = append(rows, []string{string(p.Name), string(p.Strategy)})
		}
		return s.table([]string{"POOL", "STRATEGY"}, rows)
	})
}

func (s *shell) setPool(ctx context.Context, p api.Pool) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	err = s.step("Updating pool "+string(p.Name), func() (string, error) {
		p, err = rack.PutPool(ctx, p)
		return "strategy " + string(p.Strategy), err
	})
	if err != nil {
		return err
	}
	return s.print(p, nothing)
}
