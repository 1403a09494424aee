package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/server"
)

// serverGCPercent is by how much a server's heap may grow before it is collected. Of a million processes a
// fifth of the servers' time went into that, and while the stacks of thousands of sessions are looked at, what
// stands in the way of heartbeats grows.
const serverGCPercent = 200

// serverFlags are what a server can be told.
type serverFlags struct {
	dir, rack, domain, network           string
	advertise                            string
	grpcAddr, httpAddr, raftAddr, gossip string
	httpPort, httpsPort                  int
	bootstrap, debug                     bool
	join                                 []string
	tokenFile                            string
	privileged                           bool
	log                                  string
	certificates                         time.Duration
}

// register adds the flags that dev has as well.
func (f *serverFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "dir", "/var/lib/slipway", "data directory")
	cmd.Flags().StringVar(&f.rack, "rack", "main", "name of a new rack")
	cmd.Flags().StringVar(&f.domain, "domain", "localhost", "domain of the routes: <service>.<app>.<domain>")
	cmd.Flags().StringVar(&f.grpcAddr, "addr", "127.0.0.1:7420", "address for clients and agents")
	cmd.Flags().StringVar(&f.httpAddr, "registry-addr", "127.0.0.1:7421", "address of registry and metrics")
	cmd.Flags().StringVar(&f.raftAddr, "raft-addr", "127.0.0.1:7422", "address for the other servers")
	cmd.Flags().IntVar(&f.httpPort, "http", 8080, "port of the routers for HTTP")
	cmd.Flags().IntVar(&f.httpsPort, "https", 8443, "port of the routers for HTTPS")
	cmd.Flags().DurationVar(&f.certificates, "certificate-life", 30*24*time.Hour, "how long the certificates of machines are good; they are renewed in time")
	cmd.Flags().BoolVar(&f.debug, "debug", false, "log more")
	cmd.Flags().StringVar(&f.log, "log", "", "log file; stderr if empty")
}

// registerCluster adds the flags of a server among others.
func (f *serverFlags) registerCluster(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.privileged, "allow-privileged", false, "take manifests with privileged services; nodes that are to run them need the flag as well")
	cmd.Flags().BoolVar(&f.bootstrap, "bootstrap", false, "make a new rack in an empty data directory")
	cmd.Flags().StringSliceVar(&f.join, "join", nil, "HOST:PORT of servers of the rack to join, with an empty data directory")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the token to join with: join-server.token of the first server, or slipway rack join-token server")
	cmd.Flags().StringVar(&f.advertise, "advertise", "", "IP address where other machines reach this one: sets --addr, --registry-addr, --raft-addr and --gossip-addr with their ports")
	cmd.Flags().StringVar(&f.gossip, "gossip-addr", "", "address, TCP and UDP, where servers find one another; a server without one stays alone")
	cmd.Flags().StringVar(&f.network, "network", "10.192.0.0/10", "addresses of the processes of a new rack, a /24 for each node; nothing else may use them")
}

func serverCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "server", Short: "Run a server of the control plane", Args: cobra.NoArgs,
		Example: "  slipwayd server --bootstrap --advertise 192.0.2.1\n  slipwayd server --join 192.0.2.1:7420 --token-file join-server.token --advertise 192.0.2.2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(f.log, f.debug)
			if err != nil {
				return err
			}
			if err := f.spread(cmd); err != nil {
				return err
			}
			config := f.config(log)
			if config.Token, err = readToken(f.tokenFile); err != nil {
				return err
			}
			s, err := server.New(cmd.Context(), config)
			if err != nil {
				return err
			}
			debug.SetGCPercent(serverGCPercent)
			return s.Run(cmd.Context())
		},
	}
	f.register(cmd)
	f.registerCluster(cmd)
	return cmd
}

// spread sets the addresses that follow from --advertise.
func (f *serverFlags) spread(cmd *cobra.Command) error {
	if f.bootstrap && len(f.join) > 0 {
		return api.Errorf(api.CodeInvalid, "--bootstrap makes a new rack and --join enters one that is there; use one of them")
	}
	if f.advertise != "" && net.ParseIP(f.advertise) == nil {
		return api.Errorf(api.CodeInvalid, "--advertise %q is not an IP address", f.advertise)
	}
	if f.advertise == "" && f.gossip == "" && !cmd.Flags().Changed("network") {
		f.network = "" // a rack on one machine
	}
	if f.advertise == "" {
		return nil
	}
	for _, a := range []struct {
		flag, port string
		addr       *string
	}{{"addr", "7420", &f.grpcAddr}, {"registry-addr", "7421", &f.httpAddr}, {"raft-addr", "7422", &f.raftAddr}, {"gossip-addr", "7424", &f.gossip}} {
		if !cmd.Flags().Changed(a.flag) {
			*a.addr = net.JoinHostPort(f.advertise, a.port)
		}
	}
	return nil
}

// readToken reads a file with a token; "" for no file.
func readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", api.Errorf(api.CodeInvalid, "read the join token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// config turns flags into the server's configuration.
func (f *serverFlags) config(log *slog.Logger) server.Config {
	return server.Config{
		Dir: f.dir, Bootstrap: f.bootstrap, Join: f.join, Rack: f.rack, Domain: f.domain, HTTPPort: f.httpPort, HTTPSPort: f.httpsPort,
		Network: f.network, GRPCAddr: f.grpcAddr, HTTPAddr: f.httpAddr, RaftAddr: f.raftAddr, GossipAddr: f.gossip, Version: version,
		CertificateLife: f.certificates, AllowPrivileged: f.privileged, Log: log, Died: endNow,
	}
}

// endNow ends the program because its disk does not answer: whoever waits for that waits for ever.
// The init system starts it again.
func endNow(err error) {
	fmt.Fprintln(os.Stderr, "slipwayd:", err)
	os.Exit(1)
}
