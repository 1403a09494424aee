package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) whatIfCommand() *cobra.Command {
	c := s.verb(verb{
		use: "what-if", short: "Ask what would follow from a change",
		long: "Ask what would follow from a change, on the present state of the rack and by what decides there.\n" +
			"Nothing is changed. Exits with 0 if every copy that is wanted has a place in the end, and with 3 if not.",
		example: "  slipway what-if node rm n3\n  slipway what-if scale web=20\n  slipway what-if deploy -m next.yml",
	})
	c.RunE = help
	c.AddCommand(s.whatIfNodeCommand(), s.whatIfScaleCommand(), s.whatIfDeployCommand())
	return c
}

// help is the body of a command that only has others.
func help(c *cobra.Command, _ []string) error { return c.Help() }

func (s *shell) whatIfNodeCommand() *cobra.Command {
	c := s.verb(verb{
		use: "node", short: "Ask what would follow if nodes went or came",
		long: "Ask what would follow if nodes went or came. The answer tells of the apps that the token reaches.", example: "  slipway what-if node rm n3",
	})
	c.RunE = help
	c.AddCommand(
		s.verb(verb{
			use: "rm NODE", names: nodeNames, short: "If a node broke", long: "Ask what would follow if a node was gone from one moment to the next.",
			example: "  slipway what-if node rm n3", args: between(1, 1),
			run: func(ctx context.Context, args []string) error {
				return s.whatIf(ctx, "", client.WhatIf{RemoveNode: args[0]})
			},
		}),
		s.verb(verb{
			use: "drain NODE", names: nodeNames, short: "If a node was drained", long: "Ask what would follow if a node had to give away what it runs.",
			example: "  slipway what-if node drain n3", args: between(1, 1),
			run: func(ctx context.Context, args []string) error {
				return s.whatIf(ctx, "", client.WhatIf{DrainNode: args[0]})
			},
		}),
		s.whatIfAddCommand(),
	)
	return c
}

func (s *shell) whatIfAddCommand() *cobra.Command {
	cpu, n := 0, 1
	var memory, pool string
	var labels []string
	c := s.verb(verb{
		use: "add", short: "If nodes joined",
		long: "Ask what would follow if nodes joined. --cpu is in cores, --memory in MiB or with a unit. What is not said\n" +
			"of a new node is what the nodes of the rack agree on, and the disk of the smallest.",
		example: "  slipway what-if node add --cpu 4 --memory 8192\n  slipway what-if node add --cpu 16 --memory 64GiB --pool front --label zone=a --count 3",
		run: func(ctx context.Context, _ []string) error {
			bytes, err := parseMemory(memory)
			if err != nil {
				return err
			}
			nodes := client.NewNodes{Count: n, Pool: api.PoolName(pool), Labels: map[string]string{}}
			nodes.Capacity = api.Amount{CPU: api.MilliCPU(max(-1, min(cpu, 1<<30))) * 1000, Memory: bytes} // for the rack to refuse
			for _, label := range labels {
				name, value, ok := strings.Cut(label, "=")
				if !ok || name == "" {
					return usage("--label takes NAME=VALUE, got %q", label)
				}
				nodes.Labels[name] = value
			}
			return s.whatIf(ctx, "", client.WhatIf{AddNodes: &nodes})
		},
	})
	c.Flags().IntVar(&cpu, "cpu", 0, "cores of a node")
	c.Flags().StringVar(&memory, "memory", "0", "memory of a node")
	c.Flags().StringVar(&pool, "pool", "", "pool that they join (default: default)")
	c.Flags().StringArrayVar(&labels, "label", nil, "label of a node, NAME=VALUE; may be repeated")
	c.Flags().IntVar(&n, "count", 1, "how many")
	return c
}

func (s *shell) whatIfScaleCommand() *cobra.Command {
	return s.verb(verb{
		use: "scale SERVICE=COUNT...", names: serviceNames, short: "If services had other counts", args: between(1, -1),
		long:    "Ask what would follow if services of an app had other numbers of copies, all at once.",
		example: "  slipway what-if scale web=20\n  slipway what-if scale web=20 worker=3",
		run: func(ctx context.Context, args []string) error {
			app, err := s.appIn(".")
			if err != nil {
				return err
			}
			counts := map[api.ServiceName]int{}
			for _, arg := range args {
				service, n, ok := strings.Cut(arg, "=")
				many, err := strconv.Atoi(n)
				if _, twice := counts[api.ServiceName(service)]; !ok || err != nil || twice {
					return usage("what-if scale takes SERVICE=COUNT, each service once, got %q", arg)
				}
				counts[api.ServiceName(service)] = many
			}
			return s.whatIf(ctx, app, client.WhatIf{Scale: counts})
		},
	})
}

func (s *shell) whatIfDeployCommand() *cobra.Command {
	name := ""
	c := s.verb(verb{
		use: "deploy [DIR]", names: directoryNames, short: "If a manifest was deployed", args: between(0, 1),
		long: "Ask whether every copy that the manifest of a directory asks for would have a place, once the copies of\n" +
			"the present release are gone. The rack reads the manifest as for a deployment, with the environment and\n" +
			"the overrides of the app. Nothing is built.",
		example: "  slipway what-if deploy\n  slipway what-if deploy -m next.yml",
		run: func(ctx context.Context, args []string) error {
			dir := directory(args)
			app, err := s.appIn(dir)
			if err != nil {
				return err
			}
			m, err := readManifest(dir, name)
			if err != nil {
				return err
			}
			if err := m.check(); err != nil {
				return err
			}
			return s.whatIf(ctx, app, client.WhatIf{Deploy: m.text})
		},
	})
	c.Flags().StringVarP(&name, "manifest", "m", "", "the manifest (default: slipway.yml, or convox.yml)")
	return c
}

// whatIf asks and prints the answer.
func (s *shell) whatIf(ctx context.Context, app api.AppName, change client.WhatIf) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	w, err := rack.WhatIf(ctx, app, change)
	if err != nil {
		return err
	}
	if err := s.print(w, func() error { return s.printWhatIf(w) }); err != nil {
		return err
	}
	return fitting(w.Fits)
}

func (s *shell) printWhatIf(w api.WhatIf) error {
	missing := 0
	for _, v := range w.Services {
		missing += v.Missing
	}
	verdict := "every copy that is wanted has a place"
	switch {
	case !w.Fits && missing == 1:
		verdict = "1 copy has no place"
	case !w.Fits:
		verdict = fmt.Sprintf("%d copies have no place", missing)
	}
	if err := s.answer(clean(fmt.Sprintf("If %s, %s.", w.Change, verdict))); err != nil {
		return err
	}
	if len(w.Services) == 0 {
		return s.answer("No service is affected.")
	}
	var rows [][]string
	for _, v := range w.Services {
		rows = append(rows, []string{
			string(v.App), string(v.Service), fmt.Sprint(v.Displaced), fmt.Sprint(v.Placed), fmt.Sprint(v.Preempted),
			fmt.Sprint(v.Missing), places(v.Nodes), v.Waiting,
		})
	}
	return s.table([]string{"APP", "SERVICE", "DISPLACED", "PLACED", "PREEMPTED", "MISSING", "NODES", "WAITING"}, rows)
}

// placesMax bounds the nodes in one cell.
const placesMax = 5

// places says where copies would go: "n1 ×3, n2".
func places(nodes []api.NodeID) string {
	counts := map[api.NodeID]int{}
	var names []api.NodeID
	for _, n := range nodes {
		if counts[n]++; counts[n] == 1 {
			names = append(names, n)
		}
	}
	slices.SortStableFunc(names, func(a, b api.NodeID) int { return counts[b] - counts[a] })
	var texts []string
	for i, n := range names {
		if i == placesMax {
			texts = append(texts, fmt.Sprintf("and %s more", count(len(names)-placesMax, "node")))
			break
		}
		text := string(n)
		if counts[n] > 1 {
			text += fmt.Sprintf(" ×%d", counts[n])
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}
