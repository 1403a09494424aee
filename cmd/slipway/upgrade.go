package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) upgradeCommand() *cobra.Command {
	var finish bool
	c := s.verb(verb{
		use: "upgrade", short: "Tell how far an upgrade of the rack is, or finish it",
		example: "  slipway rack upgrade\n  slipway rack upgrade --finish",
		long: "List the versions of all machines, and say whether the next one may be upgraded now and which that is; the exit\n" +
			"code is not 0 while it may not. It changes nothing. Machines are upgraded one after the other, servers first.\n" +
			"Until all are new the rack writes what the version before reads, so that servers can go back to it, and what\n" +
			"only the new version has is refused. --finish ends that: from then on the version before cannot take part.",
		run: func(ctx context.Context, _ []string) error { return s.upgrade(ctx, finish) },
	})
	c.Flags().BoolVar(&finish, "finish", false, "use what the new version has; there is no way back to the one before")
	return c
}

func (s *shell) upgrade(ctx context.Context, finish bool) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	u, err := rack.PlanUpgrade(ctx)
	if err != nil {
		return err
	}
	if finish {
		err := s.step("Finishing the upgrade", func() (string, error) {
			before := u.Format
			u, err = rack.FinishUpgrade(ctx)
			return fmt.Sprintf("format %d, %d before", u.Format, before), err
		})
		if err != nil {
			return err
		}
	}
	if err := s.print(u, func() error { return s.showUpgrade(u) }); err != nil {
		return err
	}
	if len(u.Wait) > 0 {
		return api.Errorf(api.CodeConflict, "do not upgrade a machine now: %s", strings.Join(u.Wait, "; "))
	}
	return nil
}

func (s *shell) showUpgrade(u api.Upgrade) error {
	var rows [][]string
	for _, one := range u.Servers {
		rows = append(rows, []string{one.Called(), serverRole(one), one.Version, one.Formats.String(), one.Status})
	}
	for _, n := range u.Nodes {
		rows = append(rows, []string{n.Name, "node", n.Version, "", string(n.Status)})
	}
	if err := s.table([]string{"NAME", "ROLE", "VERSION", "FORMATS", "STATUS"}, rows); err != nil {
		return err
	}
	next := u.Next
	if next == "" {
		next = "nothing: all machines have the same version, and an upgrade may begin"
	}
	format := fmt.Sprint(u.Format)
	if u.CanFinish() {
		format += fmt.Sprintf(", %d once the upgrade is finished", u.Reads)
	}
	return s.block("Format", format, "Next", next)
}
