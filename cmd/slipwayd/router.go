package main

import (
	"net"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"

	"slipway/agent/router"
	"slipway/api"
)

// routerGCPercent is by how much a router's heap may grow before it is collected.
const routerGCPercent = 400

// routerFlags are what a router can be told.
type routerFlags struct {
	socket, state, certificates, key string
	host                             string
	http, https                      int
}

func routerCommand() *cobra.Command {
	var f routerFlags
	cmd := &cobra.Command{
		Use: "router", Short: "Run the ingress router of a node; started by the agent", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger("", false)
			if err != nil {
				return err
			}
			key, err := os.ReadFile(f.key)
			if err != nil {
				return api.Errorf(api.CodeInvalid, "read the key of session cookies: %w", err)
			}
			r, err := router.New(router.Config{
				HTTPAddr: net.JoinHostPort(f.host, strconv.Itoa(f.http)), HTTPSAddr: net.JoinHostPort(f.host, strconv.Itoa(f.https)),
				ControlSocket: f.socket, StateFile: f.state, CertificateDir: f.certificates, StickyKey: key, Takeover: true, Logger: log,
			})
			if err != nil {
				return err
			}
			// The heap of a router is a few megabytes that turn over all the time: to collect it
			// less often costs little memory and saves a tenth of the processor time.
			debug.SetGCPercent(routerGCPercent)
			return r.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&f.socket, "socket", "", "control socket")
	cmd.Flags().StringVar(&f.state, "state", "", "file of the last table")
	cmd.Flags().StringVar(&f.certificates, "certificates", "", "directory of certificates")
	cmd.Flags().StringVar(&f.key, "key", "", "file with the key of session cookies")
	cmd.Flags().StringVar(&f.host, "host", "127.0.0.1", "address to listen on")
	cmd.Flags().IntVar(&f.http, "http", 8080, "port for HTTP")
	cmd.Flags().IntVar(&f.https, "https", 8443, "port for HTTPS")
	return cmd
}

// routerDaemon is the router of a node.
func routerDaemon(p paths, host string, http, https int) (*daemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &daemon{
		name: "router", pidFile: p.run("router.pid"), logFile: p.data("router.log"), takesOver: true,
		args: []string{
			self, "router", "--socket", p.routerSocket(), "--state", p.data("router.json"), "--certificates", p.data("certificates"),
			"--key", p.data("router.key"), "--host", host, "--http", strconv.Itoa(http), "--https", strconv.Itoa(https),
		},
	}, nil
}
