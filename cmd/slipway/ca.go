package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

// rotateEvery is how often a replacement is looked at that is waited for.
const rotateEvery = time.Second

func (s *shell) caCommand() *cobra.Command {
	c := s.verb(verb{
		use: "ca", short: "List the rack's certificate authorities", example: "  slipway rack ca\n  slipway rack ca --json",
		long: "List the certificate authorities that the machines of the rack trust: the one that signs, and while it is being\n" +
			"replaced the one that is added or leaves, and the machines that the next stage waits for.",
		run: func(ctx context.Context, _ []string) error {
			rack, err := s.connect(ctx)
			if err != nil {
				return err
			}
			all, err := rack.Authorities(ctx)
			if err != nil {
				return err
			}
			return s.print(all, func() error { return s.showAuthorities(all) })
		},
	})
	c.AddCommand(s.rotateCommand())
	return c
}

func (s *shell) rotateCommand() *cobra.Command {
	var wait, force bool
	c := s.verb(verb{
		use: "rotate", short: "Replace the rack's certificate authority",
		example: "  slipway rack ca rotate --wait --reason \"yearly\"\n  slipway rack ca rotate --force",
		long: "Replace the authority that signs the certificates of machines while the rack runs. A new one is added; when every\n" +
			"machine trusts it, it signs; when every machine has a certificate of it, the old one is trusted no more. Machines\n" +
			"that are away are waited for. --force goes on without those that are waited for now, and names them: they have to\n" +
			"join anew. Join tokens of before are worth nothing afterwards; make new ones with: slipway rack join-token.",
		run: func(ctx context.Context, _ []string) error { return s.rotate(ctx, wait, force) },
	})
	c.Flags().BoolVar(&wait, "wait", false, "wait until the old authority is trusted no more")
	c.Flags().BoolVar(&force, "force", false, "go on without the machines that a replacement under way waits for")
	return c
}

func (s *shell) rotate(ctx context.Context, wait, force bool) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	what, leave := "Adding a new authority", []string(nil)
	if force {
		if leave, err = s.waitedFor(ctx, rack); err != nil {
			return err
		}
		what = "Going on without " + strings.Join(leave, ", ")
	}
	var all []api.Authority
	err = s.step(what, func() (string, error) {
		all, err = rack.RotateAuthority(ctx, leave...)
		return "", err
	})
	if err == nil && wait {
		all, err = s.awaitRotation(ctx, rack)
	}
	if err != nil {
		return err
	}
	return s.print(all, func() error { return s.showAuthorities(all) })
}

// waitedFor returns the machines that a replacement waits for, and tells who they are.
func (s *shell) waitedFor(ctx context.Context, rack *client.Client) (machines []string, err error) {
	all, err := rack.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range waits(all) {
		s.say("left behind, to join anew: %s", oneLine(l.String()))
		machines = append(machines, l.Machine)
	}
	if len(machines) == 0 {
		return nil, api.Errorf(api.CodeConflict, "no machine is waited for, so that there is nothing to force; see: slipway rack ca")
	}
	return machines, nil
}

// waits returns the machines that the next stage waits for.
func waits(all []api.Authority) (out []api.Laggard) {
	for _, a := range all {
		for _, l := range a.Behind {
			if l.Waited {
				out = append(out, l)
			}
		}
	}
	return out
}

// awaitRotation waits until one authority is left, and tells when something else is waited for.
func (s *shell) awaitRotation(ctx context.Context, rack *client.Client) ([]api.Authority, error) {
	tick := time.NewTicker(rotateEvery)
	defer tick.Stop()
	told := ""
	for {
		all, err := rack.Authorities(ctx)
		if err != nil || len(all) < 2 {
			return all, err
		}
		if now := waitingFor(all); now != told {
			s.say("%s", oneLine(now))
			told = now
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// waitingFor says what a replacement waits for.
func waitingFor(all []api.Authority) string {
	behind := waits(all)
	for _, a := range all {
		switch {
		case a.Stage == api.AuthorityAdded && len(behind) > 0:
			return fmt.Sprintf("waiting until all machines trust the new authority: %s", behindText(behind))
		case a.Stage == api.AuthorityLeaving && len(behind) > 0:
			return fmt.Sprintf("waiting until all machines have a certificate of the new authority: %s", behindText(behind))
		}
	}
	return "waiting until what was begun before has ended"
}

// behindMax is how many machines are named in a line.
const behindMax = 3

func behindText(behind []api.Laggard) string {
	var names []string
	for _, l := range behind[:min(len(behind), behindMax)] {
		names = append(names, l.String())
	}
	text := strings.Join(names, "; ")
	if more := len(behind) - behindMax; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

func (s *shell) showAuthorities(all []api.Authority) error {
	var rows, machines [][]string
	for _, a := range all {
		since := a.Since
		if since.IsZero() {
			since = a.Created
		}
		rows = append(rows, []string{a.Fingerprint[:min(len(a.Fingerprint), 12)], string(a.Stage), s.ago(since), a.Until.UTC().Format(time.DateOnly)})
		for _, l := range a.Behind {
			state := "waited for"
			if !l.Waited {
				state = "left behind"
			}
			machines = append(machines, []string{l.Machine, l.Name, state, l.Why})
		}
	}
	if err := s.table([]string{"AUTHORITY", "STAGE", "SINCE", "UNTIL"}, rows); err != nil || len(machines) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(s.out); err != nil {
		return err
	}
	return s.table([]string{"MACHINE", "NAME", "STATE", "WHY"}, machines)
}
