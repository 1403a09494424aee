package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
	"slipway/manifest"
)

func (s *shell) runCommand() *cobra.Command {
	r := client.Run{}
	timeout := period(time.Hour)
	c := s.verb(verb{
		use: "run SERVICE [-- COMMAND...]", names: serviceNames, short: "Run a one-off process",
		long: "Run a command in a new process with the image and environment of a service. The process belongs to the\n" +
			"rack: it is stopped when nobody has been attached for a minute, unless it is detached. The exit code is\n" +
			"that of the process. A command in one pair of quotes is read as in a manifest.",
		example: "  slipway run web -- bin/migrate\n  slipway run web \"bin/migrate --all\"\n  slipway run web --release v3 -- sh\n  slipway run worker --detach -- bin/reindex",
		args:    between(1, -1),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			r.Service, r.Timeout = api.ServiceName(args[0]), time.Duration(timeout)
			if r.Command, err = command(args[1:]); err != nil {
				return err
			}
			if r.Detach {
				return s.runDetached(ctx, rack, app, r)
			}
			c := s.console()
			r.TTY, r.Size = c.tty, c.size
			p, err := rack.Run(ctx, app, r)
			if err != nil {
				return err
			}
			if err := s.awaitNode(ctx, rack, app, p); err != nil {
				return err
			}
			return s.converse(ctx, c, func(ctx context.Context, streams client.Streams) (int, error) {
				return rack.Attach(ctx, app, p.ID, streams)
			})
		},
	})
	c.Flags().BoolVarP(&r.Detach, "detach", "d", false, "do not attach; the process lives until it exits or the time is up")
	c.Flags().StringVar(&r.Release, "release", "", "of this release instead of the active one")
	c.Flags().VarP(&timeout, "timeout", "t", "how long the process may live; a bare number is seconds")
	return c
}

// command reads a command. One argument with spaces is a line, as in a manifest; else each argument
// is a word.
func command(args []string) ([]string, error) {
	if len(args) != 1 || !strings.ContainsAny(args[0], " \t\n") {
		return args, nil
	}
	words, ok := manifest.Words(args[0])
	if !ok {
		return nil, usage("the command %q has a quote or a backslash at its end that is not closed", args[0])
	}
	return words, nil
}

func (s *shell) runDetached(ctx context.Context, rack *client.Client, app api.AppName, r client.Run) error {
	var p api.ProcessInfo
	err := s.step("Running detached process", func() (string, error) {
		var err error
		p, err = rack.Run(ctx, app, r)
		return string(p.ID), err
	})
	if err != nil {
		return err
	}
	return s.print(p, nothing)
}

// The pauses of somebody who waits for room.
const (
	nodeEvery  = 200 * time.Millisecond
	nodeSilent = 2 * time.Second // before it is told why
	leaveMax   = 5 * time.Second // to take back what nobody waits for any more
)

// awaitNode waits until a one-off has a node, and tells what it waits for. Who does not want to
// wait any longer takes the one-off along: it would start later, with nobody attached.
func (s *shell) awaitNode(ctx context.Context, rack *client.Client, app api.AppName, p api.ProcessInfo) error {
	tick := time.NewTicker(nodeEvery)
	defer tick.Stop()
	told := ""
	for began := s.now(); p.Status == api.StatePending.String(); {
		if why := orElse(oneLine(p.Message), "no node has taken it yet"); s.now().Sub(began) > nodeSilent && why != told {
			told = why
			fmt.Fprintf(s.err, "process %s waits: %s\n", p.ID, why)
		}
		select {
		case <-ctx.Done():
			leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveMax)
			defer cancel()
			if err := rack.StopProcess(leaving, app, p.ID); err != nil {
				return fmt.Errorf("stop process %s, which nobody waits for any more: %w", p.ID, err)
			}
			return ctx.Err()
		case <-tick.C:
		}
		now, err := rack.Process(ctx, app, p.ID)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			p = now
		}
	}
	return nil
}
