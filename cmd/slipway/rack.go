package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/durable"
)

func (s *shell) rackCommand() *cobra.Command {
	c := s.verb(verb{
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
	c.AddCommand(s.serversCommand(), s.upgradeCommand(), s.caCommand(), s.joinTokenCommand(), s.backupCommand(), s.rackPsCommand(), s.rackLogsCommand(), s.accessCommand())
	return c
}

func (s *shell) serversCommand() *cobra.Command {
	c := s.verb(verb{
		use: "servers", short: "List the servers of the rack", example: "  slipway rack servers\n  slipway rack servers remove s2",
		long: "List the servers that decide for the rack. More than half of those with a vote must answer.",
		run: func(ctx context.Context, _ []string) error {
			rack, err := s.connect(ctx)
			if err != nil {
				return err
			}
			servers, err := rack.Servers(ctx)
			if err != nil {
				return err
			}
			return s.print(servers, func() error {
				var rows [][]string
				for _, one := range servers {
					rows = append(rows, []string{one.ID, one.Name, one.Status, serverRole(one), one.Addr, one.Version, s.ago(one.Joined)})
				}
				return s.table([]string{"ID", "NAME", "STATUS", "ROLE", "ADDRESS", "VERSION", "JOINED"}, rows)
			})
		},
	})
	c.AddCommand(s.verb(verb{
		use: "remove SERVER", short: "Remove a server for good", args: between(1, 1), example: "  slipway rack servers remove s2 --reason \"disk is broken\"",
		long: "Remove a server, named by its ID or its name, from those that decide. To come back it has to join again, with an\n" +
			"empty data directory. Servers that do not answer for ten minutes are removed by themselves, as long as three\n" +
			"with a vote remain.",
		run: func(ctx context.Context, args []string) error {
			rack, err := s.connect(ctx)
			if err != nil {
				return err
			}
			err = s.step("Removing server "+oneLine(args[0]), func() (string, error) { return "", rack.RemoveServer(ctx, args[0]) })
			if err != nil {
				return err
			}
			return s.print(map[string]string{"server": args[0]}, func() error { return nil })
		},
	}))
	return c
}

// serverRole is what a server is to the others.
func serverRole(one api.Server) string {
	switch {
	case one.Leader:
		return "leader"
	case one.Voter:
		return "voter"
	}
	return "joining"
}

func (s *shell) joinTokenCommand() *cobra.Command {
	return s.verb(verb{
		use: "join-token server|agent", short: "Make a new token for machines to join with", args: between(1, 1),
		example: "  slipway rack join-token agent > join-agent.token\n  slipway rack join-token server --json",
		long: "Replace the token that servers or agents join with and print the new one, this once. The one before is worth\n" +
			"nothing from then on. Machines that are part of the rack do not notice.",
		run: func(ctx context.Context, args []string) error {
			rack, err := s.connect(ctx)
			if err != nil {
				return err
			}
			token, err := rack.RotateJoinToken(ctx, args[0])
			if err != nil {
				return err
			}
			return s.print(map[string]string{"role": args[0], "token": token}, func() error { return s.answer(token) })
		},
	})
}

func (s *shell) backupCommand() *cobra.Command {
	var file string
	c := s.verb(verb{
		use: "backup FILE", short: "Write all that is needed to restore the rack", args: between(1, 1),
		example: "  slipway rack backup rack.backup --passphrase-file key\n  slipway rack backup rack.backup < key",
		long: "Write the state of the rack and the keys that open it to a file, encrypted with a passphrase: apps, releases,\n" +
			"environments, tokens. Images and volumes are not in it. The passphrase comes from standard input or a file;\n" +
			"without it the backup is of no use to anybody. slipwayd restore makes a rack of it.",
		run: func(ctx context.Context, args []string) error { return s.backup(ctx, args[0], file) },
	})
	c.Flags().StringVar(&file, "passphrase-file", "", "file with the passphrase")
	return c
}

func (s *shell) backup(ctx context.Context, path, passphraseFile string) error {
	secret := ""
	if passphraseFile == "" {
		var err error
		if secret, err = s.readSecret(ctx, "Passphrase: "); err != nil {
			return err
		}
	} else {
		b, err := os.ReadFile(passphraseFile)
		if err != nil {
			return usage("read the passphrase: %w", err)
		}
		secret = strings.TrimRight(string(b), "\r\n")
	}
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	var size int64
	err = s.step("Writing "+oneLine(path), func() (string, error) {
		size, err = durable.Write(path, func(w io.Writer) error { return rack.Backup(ctx, w, secret) })
		return api.Bytes(size).String(), err
	})
	if err != nil {
		return err
	}
	return s.print(map[string]any{"file": path, "bytes": size}, func() error { return nil })
}
