package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) nodesCommand() *cobra.Command {
	list := func(ctx context.Context, _ []string) error { return s.listNodes(ctx) }
	c := s.verb(verb{
		use: "nodes", aliases: []string{"instances"}, short: "List nodes, drain and remove them", run: list,
		long: "List the machines that run processes. CPU and memory are what processes may use. The sub-commands name\n" +
			"a node by its ID, or by its name if no other node has it.",
		example: "  slipway nodes\n  slipway nodes info n3\n  slipway nodes drain n3 --reason \"new disk\"",
	})
	c.AddCommand(
		s.verb(verb{use: "list", short: "List nodes", long: "List the machines that run processes.", example: "  slipway nodes list", run: list}),
		s.verb(verb{
			use: "info NODE", names: nodeNames, short: "Describe a node and what it runs", args: between(1, 1), example: "  slipway nodes info n3",
			long: "Describe a node: what it has, what of that is reserved, and its processes of the apps that the token\nreaches.",
			run:  func(ctx context.Context, args []string) error { return s.nodeInfo(ctx, args[0]) },
		}),
		s.drainCommand(),
		s.nodeVerb("cordon NODE", nil, "Keep new processes off a node",
			"Keep new processes off a node. What runs there stays; drain moves it elsewhere.", true, nil),
		s.nodeVerb("uncordon NODE", []string{"undrain"}, "Let a node take new processes again",
			"Let a node take new processes again, and call its drain off if there is one. What has moved does not come\nback by itself.", false, new(false)),
		s.labelCommand(),
		s.verb(verb{
			use: "pool NODE POOL", names: nodeNames, second: poolNames, short: "Move a node into another pool", args: between(2, 2),
			long:    "Move a node into another pool, for what is placed from now on. What runs there stays; drain moves it.",
			example: "  slipway nodes pool n3 front",
			run: func(ctx context.Context, args []string) error {
				pool := api.PoolName(args[1])
				return s.updateNode(ctx, "Moving", args[0], client.NodeChange{Pool: &pool})
			},
		}),
		s.verb(verb{
			use: "remove NODE", names: nodeNames, short: "Forget a node that is down or empty", args: between(1, 1),
			long: "Forget a node that is down, or that runs nothing. The name must be given: it is the confirmation. Its agent\n" +
				"is not let in any more: a machine joins anew with an empty data directory.",
			example: "  slipway nodes remove n3",
			run:     func(ctx context.Context, args []string) error { return s.removeNode(ctx, args[0]) },
		}),
	)
	return c
}

// nodeVerb is a verb that sets or clears the marks of a node.
func (s *shell) nodeVerb(use string, aliases []string, short, long string, cordoned bool, draining *bool) *cobra.Command {
	name, _, _ := strings.Cut(use, " ")
	return s.verb(verb{
		use: use, aliases: aliases, names: nodeNames, short: short, long: long, args: between(1, 1),
		example: "  slipway nodes " + name + " n3",
		run: func(ctx context.Context, args []string) error {
			return s.updateNode(ctx, strings.ToUpper(name[:1])+name[1:]+"ing", args[0], client.NodeChange{Cordoned: &cordoned, Draining: draining})
		},
	})
}

func (s *shell) labelCommand() *cobra.Command {
	return s.verb(verb{
		use: "label NODE NAME=VALUE... NAME-...", names: nodeNames, short: "Set and remove labels of a node", args: between(2, -1),
		long: "Set labels of a node, and remove those that are followed by a dash. Constraints of services, affinities and\n" +
			"spreads read them as node.label.NAME. What runs there already stays.",
		example: "  slipway nodes label n3 zone=a disk=ssd\n  slipway nodes label n3 disk-",
		run: func(ctx context.Context, args []string) error {
			ch := client.NodeChange{Label: map[string]string{}}
			for _, arg := range args[1:] {
				name, value, set := strings.Cut(arg, "=")
				gone, remove := strings.CutSuffix(arg, "-")
				switch {
				case set && name != "" && value != "":
					ch.Label[name] = value
				case !set && remove && gone != "":
					ch.Unlabel = append(ch.Unlabel, gone)
				default:
					return usage("a label is set by NAME=VALUE and removed by NAME-, got %q", arg)
				}
			}
			return s.updateNode(ctx, "Labelling", args[0], ch)
		},
	})
}

func (s *shell) listNodes(ctx context.Context) error {
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
}

func nodeStatus(n api.Node) string {
	switch {
	case n.Problem != "":
		return string(n.Status) + ", its agent does not start"
	case n.Draining:
		return string(n.Status) + ", draining"
	case n.Cordoned:
		return string(n.Status) + ", cordoned"
	}
	return string(n.Status)
}

func (s *shell) nodeInfo(ctx context.Context, node string) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	info, err := rack.Node(ctx, node)
	if err != nil {
		return err
	}
	return s.print(info, func() error {
		n, total := info.Node, info.Node.Available()
		err := s.block("ID", string(n.ID), "Name", n.Name, "Status", nodeStatus(n), "Since", s.ago(n.Since), "Problem", n.Problem, "Pool", string(n.Pool),
			"Labels", strings.Join(pairs(n.Labels), " "), "Address", n.Addr, "Version", n.Version,
			"CPU", fmt.Sprintf("%s of %s reserved", info.Used.CPU, total.CPU),
			"Memory", fmt.Sprintf("%s of %s reserved", info.Used.Memory, total.Memory),
			"Disk", fmt.Sprintf("%s of %s reserved", info.Used.Disk, total.Disk),
			"Devices", strings.Join(devices(n.Devices), ", "), "Attributes", strings.Join(pairs(n.Attributes), "\n"))
		if err != nil || len(info.Processes) == 0 {
			return err
		}
		var rows [][]string
		for _, p := range info.Processes {
			rows = append(rows, []string{string(p.ID), string(p.App), string(p.Service), string(p.Kind), p.Status, string(p.Release), s.ago(p.Started)})
		}
		return s.table([]string{"PROCESS", "APP", "SERVICE", "KIND", "STATUS", "RELEASE", "STARTED"}, rows)
	})
}

// pairs writes a map as name=value, in the order of names.
func pairs(m map[string]string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, name+"="+m[name])
	}
	return out
}

func devices(groups []api.Device) (out []string) {
	for _, d := range groups {
		ask := api.DeviceAsk{Kind: d.Kind, Vendor: d.Vendor, Model: d.Model}
		out = append(out, fmt.Sprintf("%d %s", len(d.Instances), ask.String()))
	}
	return out
}

func (s *shell) updateNode(ctx context.Context, doing, node string, ch client.NodeChange) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	var n api.Node
	err = s.step(doing+" node "+oneLine(node), func() (string, error) {
		n, err = rack.UpdateNode(ctx, node, ch)
		switch {
		case err != nil:
			return "", err
		case ch.Pool != nil:
			return "pool " + string(n.Pool), nil
		case len(ch.Label)+len(ch.Unlabel) > 0:
			return orElse(strings.Join(pairs(n.Labels), " "), "no labels"), nil
		}
		return nodeStatus(n), nil
	})
	if err != nil {
		return err
	}
	return s.print(n, nothing)
}

func (s *shell) removeNode(ctx context.Context, node string) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	err = s.step("Removing node "+oneLine(node), func() (string, error) { return "", rack.RemoveNode(ctx, node) })
	if err != nil {
		return err
	}
	return s.print(map[string]any{"node": node, "removed": true}, nothing)
}
