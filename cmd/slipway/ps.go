package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) psCommand() *cobra.Command {
	f := client.ProcessFilter{}
	everywhere := false
	var service, release string
	list := func(ctx context.Context, _ []string) error {
		f.Service, f.Release = api.ServiceName(service), api.ReleaseID(release)
		return s.listProcesses(ctx, f, everywhere)
	}
	c := s.verb(verb{
		use: "ps", short: "List and stop processes", run: list, long: "List the processes of an app.",
		example: "  slipway ps\n  slipway ps --all\n  slipway ps stop pabcdefghij",
	})
	flags := c.PersistentFlags()
	flags.StringVarP(&service, "service", "s", "", "of this service only")
	flags.StringVar(&release, "release", "", "of this release only")
	flags.BoolVar(&f.All, "all", false, "also those that have ended")
	flags.BoolVar(&everywhere, "rack-wide", false, "of all apps")
	c.AddCommand(
		s.verb(verb{use: "list", short: "List processes", long: "List the processes of an app.", example: "  slipway ps list", run: list}),
		s.verb(verb{
			use: "info PROCESS", names: processNames, short: "Describe a process", long: "Describe a process, live or ended.",
			example: "  slipway ps info pabcdefghij", args: between(1, 1),
			run: func(ctx context.Context, args []string) error { return s.processInfo(ctx, args[0]) },
		}),
		s.verb(verb{
			use: "stop PROCESS...", names: processNames, short: "Stop processes", example: "  slipway ps stop pabcdefghij", args: between(1, -1),
			long: "Stop processes. A copy of a service is replaced; a one-off is not.",
			run:  s.stopProcesses,
		}),
	)
	return c
}

func (s *shell) listProcesses(ctx context.Context, f client.ProcessFilter, everywhere bool) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if !everywhere {
		if f.App, err = s.appIn("."); err != nil {
			return err
		}
	}
	processes, err := rack.Processes(ctx, f)
	if err != nil {
		return err
	}
	return s.print(processes, func() error {
		head := []string{"ID", "SERVICE", "STATUS", "RELEASE", "STARTED", "COMMAND"}
		if everywhere {
			head = []string{"ID", "APP", "SERVICE", "STATUS", "RELEASE", "STARTED", "COMMAND"}
		}
		var rows [][]string
		for _, p := range processes {
			row := []string{string(p.ID)}
			if everywhere {
				row = append(row, string(p.App))
			}
			rows = append(rows, append(row, string(p.Service), p.Status, string(p.Release), s.ago(p.Started), p.Command))
		}
		return s.table(head, rows)
	})
}

func (s *shell) processInfo(ctx context.Context, id string) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	p, err := rack.Process(ctx, app, api.ProcessID(id))
	if err != nil {
		return err
	}
	return s.print(p, func() error {
		exit, ready := "", ""
		if p.Exit != nil {
			exit = fmt.Sprint(*p.Exit)
		}
		if p.Ready {
			ready = "true"
		}
		return s.block("Id", string(p.ID), "App", string(p.App), "Service", string(p.Service), "Kind", string(p.Kind),
			"Command", p.Command, "Node", p.Node, "Release", string(p.Release), "Status", p.Status, "Health", string(p.Health),
			"Ready", ready, "Address", p.Addr, "Created", s.ago(p.Created), "Started", s.ago(p.Started),
			"Ended", s.ago(p.Ended), "Exit code", exit, "Message", p.Message)
	})
}

func (s *shell) stopProcesses(ctx context.Context, ids []string) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		err := s.step("Stopping "+id, func() (string, error) { return "", rack.StopProcess(ctx, app, api.ProcessID(id)) })
		if err != nil {
			return err
		}
	}
	return s.print(map[string]any{"stopped": ids}, nothing)
}
