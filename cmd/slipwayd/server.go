package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"slipway/server"
)

// serverFlags are what a server can be told.
type serverFlags struct {
	dir, rack, domain        string
	grpcAddr, httpAddr, raft string
	httpPort, httpsPort      int
	bootstrap, debug         bool
	privileged               bool
	log                      string
}

func (f *serverFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "dir", "/var/lib/slipway", "data directory")
	cmd.Flags().StringVar(&f.rack, "rack", "main", "name of a new rack")
	cmd.Flags().StringVar(&f.domain, "domain", "localhost", "domain of the routes: <service>.<app>.<domain>")
	cmd.Flags().StringVar(&f.grpcAddr, "addr", "127.0.0.1:7420", "address for clients and agents")
	cmd.Flags().StringVar(&f.httpAddr, "registry-addr", "127.0.0.1:7421", "address of registry and metrics")
	cmd.Flags().StringVar(&f.raft, "raft-addr", "127.0.0.1:7422", "address for the other servers")
	cmd.Flags().IntVar(&f.httpPort, "http", 8080, "port of the routers for HTTP")
	cmd.Flags().IntVar(&f.httpsPort, "https", 8443, "port of the routers for HTTPS")
	cmd.Flags().BoolVar(&f.debug, "debug", false, "log more")
	cmd.Flags().StringVar(&f.log, "log", "", "log file; stderr if empty")
}

func serverCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "server", Short: "Run a server of the control plane", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(f.log, f.debug)
			if err != nil {
				return err
			}
			s, err := server.New(f.config(log))
			if err != nil {
				return err
			}
			return s.Run(cmd.Context())
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.privileged, "allow-privileged", false, "take manifests with privileged services; nodes that are to run them need the flag as well")
	cmd.Flags().BoolVar(&f.bootstrap, "bootstrap", false, "make a new rack in an empty data directory")
	return cmd
}

// config turns flags into the server's configuration.
func (f *serverFlags) config(log *slog.Logger) server.Config {
	return server.Config{
		Dir: f.dir, Bootstrap: f.bootstrap, Rack: f.rack, Domain: f.domain, HTTPPort: f.httpPort, HTTPSPort: f.httpsPort,
		GRPCAddr: f.grpcAddr, HTTPAddr: f.httpAddr, RaftAddr: f.raft, Version: version, AllowPrivileged: f.privileged, Log: log,
	}
}
