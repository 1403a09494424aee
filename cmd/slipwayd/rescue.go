package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/server"
)

// restoreCommand makes the first server of a rack from a backup.
func restoreCommand() *cobra.Command {
	var f serverFlags
	var passphrase string
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Make the first server of a rack from a backup", Args: cobra.ExactArgs(1),
		Long: `Make the data directory of a server from what "slipway rack backup" wrote. Started with
"slipwayd server", it is the rack: with its apps, releases, environments and tokens. Images are not in a
backup; apps whose images no node has any more are built again. Agents find it with --join, other servers
join with an empty data directory.`,
		Example: "  slipwayd restore rack.backup --passphrase-file key --advertise 192.0.2.1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.spread(cmd); err != nil {
				return err
			}
			secret, err := readPassphrase(passphrase, cmd.InOrStdin())
			if err != nil {
				return err
			}
			info, err := server.Restore(f.config(slog.New(slog.DiscardHandler)), args[0], secret)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Rack %s as of %s (entry %d) is in %s. Start it with:\n  slipwayd server --dir %[4]s --advertise %s\n",
				info.Rack, info.Created.UTC().Format("2006-01-02 15:04:05 MST"), info.Index, f.dir, f.advertise)
			return nil
		},
	}
	f.register(cmd)
	f.registerCluster(cmd)
	cmd.Flags().StringVar(&passphrase, "passphrase-file", "", "file with the passphrase; standard input if empty")
	for _, name := range []string{"bootstrap", "join", "token-file", "network", "rack"} { // the backup says
		cmd.Flag(name).Hidden = true
	}
	return cmd
}

func readPassphrase(file string, in io.Reader) (string, error) {
	var b []byte
	var err error
	if file == "" {
		b, err = io.ReadAll(io.LimitReader(in, 4096))
	} else {
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return "", api.Errorf(api.CodeInvalid, "read the passphrase: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// recoverCommand goes on from one server when most are lost.
func recoverCommand() *cobra.Command {
	var f serverFlags
	survivor := false
	cmd := &cobra.Command{
		Use: "recover --survivor", Short: "Go on with this server alone when most of the others are lost for good", Args: cobra.NoArgs,
		Long: `Make this server the only one of its rack. Run it when most servers are lost for good and nobody leads
any more, on the one whose log is the newest, with slipwayd stopped. What only the lost ones knew is lost. Should they
come back they are turned away: empty their data directories and let them join again.`,
		Example: "  slipwayd recover --survivor --dir /var/lib/slipway --advertise 192.0.2.2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !survivor {
				return api.Errorf(api.CodeInvalid, "this gives up what only other servers know; say --survivor if this is the one that survived")
			}
			if err := f.spread(cmd); err != nil {
				return err
			}
			done, err := server.Recover(f.config(slog.New(slog.DiscardHandler)))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Rack %s goes on from entry %d with this server alone. Start slipwayd, then let others join.\n", done.Rack, done.Index)
			return nil
		},
	}
	cmd.Flags().BoolVar(&survivor, "survivor", false, "this is the server that survived")
	cmd.Flags().StringVar(&f.dir, "dir", "/var/lib/slipway", "data directory")
	cmd.Flags().StringVar(&f.raftAddr, "raft-addr", "127.0.0.1:7422", "address for the other servers")
	cmd.Flags().StringVar(&f.advertise, "advertise", "", "IP address where other machines reach this one")
	return cmd
}
