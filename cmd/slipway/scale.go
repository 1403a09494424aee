package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) scaleCommand() *cobra.Command {
	var n, cpu int
	var memory string
	reset, wait := false, true
	c := s.verb(verb{
		use: "scale [SERVICE[=COUNT]]", names: serviceNames, short: "Show or change how many copies of a service run",
		long: "Show the scale of all services, or change that of one. A change replaces what the manifest says\n" +
			"until --reset, across releases. Ends when that many copies are ready, and no others are left.\n" +
			"--cpu is in thousandths of a core, --memory in MiB or with a unit.",
		example: "  slipway scale\n  slipway scale web=3\n  slipway scale web --count 3 --memory 1GiB\n  slipway scale web --reset",
		args:    between(0, 1),
	})
	c.Flags().IntVar(&n, "count", 0, "how many copies")
	c.Flags().IntVar(&cpu, "cpu", 0, "thousandths of a core for one copy")
	c.Flags().StringVar(&memory, "memory", "", "memory for one copy")
	c.Flags().BoolVar(&reset, "reset", false, "back to what the manifest says")
	c.Flags().BoolVarP(&wait, "wait", "w", true, "wait until the copies are ready")
	c.RunE = func(c *cobra.Command, args []string) error {
		change := client.Scale{Reset: reset}
		if c.Flags().Changed("count") {
			change.Count = &n
		}
		if c.Flags().Changed("cpu") {
			milli := api.MilliCPU(cpu)
			change.CPU = &milli
		}
		if memory != "" {
			bytes, err := parseMemory(memory)
			if err != nil {
				return err
			}
			change.Memory = &bytes
		}
		return s.scale(c.Context(), first(args), change, wait)
	}
	return c
}

func (s *shell) scale(ctx context.Context, service string, change client.Scale, wait bool) error {
	if name, n, ok := strings.Cut(service, "="); ok {
		count, err := strconv.Atoi(n)
		if err != nil || change.Count != nil {
			return usage("scale takes SERVICE=COUNT or --count, got %q", service)
		}
		service, change.Count = name, &count
	}
	given := change.Count != nil || change.CPU != nil || change.Memory != nil
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	switch {
	case given && change.Reset:
		return usage("--reset goes alone: it takes back what was set")
	case service == "" && (given || change.Reset):
		return usage("name the service to scale")
	case !given && !change.Reset:
		return s.printScale(ctx, rack, app, service)
	}
	var info api.ServiceInfo
	err = s.step("Scaling "+service, func() (string, error) {
		info, err = s.scaled(ctx, rack, app, api.ServiceName(service), change, wait)
		return "", err
	})
	if err != nil {
		return err
	}
	return s.print(info, nothing)
}

// scaled changes the scale of a service and waits until it is reached. Copies that ask for other
// amounts than they should are replaced.
func (s *shell) scaled(ctx context.Context, rack *client.Client, app api.AppName, service api.ServiceName, change client.Scale, wait bool) (api.ServiceInfo, error) {
	before, err := s.service(ctx, rack, app, service)
	if err != nil {
		return before, err
	}
	old, err := s.copies(ctx, rack, app, service)
	if err != nil {
		return before, err
	}
	info, err := rack.Scale(ctx, app, service, change)
	if err != nil || !wait {
		return info, err
	}
	if info.CPU == before.CPU && info.Memory == before.Memory {
		old = nil
	}
	if err := s.reach(ctx, rack, app, service, old); err != nil {
		return info, err
	}
	return s.service(ctx, rack, app, service)
}

func (s *shell) printScale(ctx context.Context, rack *client.Client, app api.AppName, only string) error {
	shown, err := rack.Services(ctx, app)
	if err == nil && only != "" {
		var service api.ServiceInfo
		service, err = s.service(ctx, rack, app, api.ServiceName(only))
		shown = []api.ServiceInfo{service}
	}
	if err != nil {
		return err
	}
	var rows [][]string
	for _, v := range shown {
		override := ""
		if v.Override != nil {
			override = "by " + v.Override.Author
		}
		rows = append(rows, []string{
			string(v.Name), fmt.Sprint(v.Count), fmt.Sprint(v.Ready), fmt.Sprint(int64(v.CPU)),
			fmt.Sprint(int64(v.Memory / api.MiB)), override,
		})
	}
	return s.print(shown, func() error {
		return s.table([]string{"SERVICE", "DESIRED", "READY", "CPU", "MEMORY", "OVERRIDE"}, rows)
	})
}

var memoryRule = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*([kKmMgGtT]?)([iI]?[bB]?)$`)

// parseMemory reads an amount of memory: a number is in MiB, units are powers of 1024.
func parseMemory(text string) (api.Bytes, error) {
	m := memoryRule.FindStringSubmatch(text)
	if m == nil || m[2] == "" && m[3] != "" {
		return 0, usage("memory %q is not an amount; write 512, 512MiB or 1.5GiB", text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	unit := map[string]api.Bytes{"": api.MiB, "k": api.KiB, "m": api.MiB, "g": api.GiB, "t": api.TiB}[strings.ToLower(m[2])]
	if err != nil || n*float64(unit) > float64(1<<60) {
		return 0, usage("memory %q is too much", text)
	}
	return api.Bytes(n * float64(unit)), nil
}
