package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"slipway/api"
)

// errUnfit is a machine that cannot take the role that was asked about; the exit code is 1.
var errUnfit = errors.New("this machine is not ready")

// checkRole is what a machine is to be.
type checkRole string

// The roles of a machine.
const (
	roleServer checkRole = "server"
	roleAgent  checkRole = "agent"
	roleDev    checkRole = "dev"
)

// serves reports whether a server of the control plane runs in the role.
func (r checkRole) serves() bool { return r != roleAgent }

// runs reports whether processes run in the role.
func (r checkRole) runs() bool { return r != roleServer }

// checkOptions are what the machine is to be checked for.
type checkOptions struct {
	role        checkRole
	dir         string
	containerd  string   // as the agent is told
	listen      string   // address of the ports, "" for all of the machine
	peers       []string // HOST:PORT
	http, https int      // ports of the router
	networkFlag string
	network     netip.Prefix // of the processes of the rack, parsed from networkFlag
	json        bool
}

func checkCommand() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use: "check", Short: "Say whether this machine can be a server or a node, and what to do where it cannot",
		Long: `Look at this machine before it becomes part of a rack: kernel, control groups, programs, disk,
clock, limits, network, firewall and free ports, and the way to other machines. What is wrong is
named with the command that puts it right. Nothing is changed: what has to be tried is tried in
namespaces that end with the command. Run it as root.

Exit codes: 0 the machine is ready, warnings included; 1 something failed; 2 a wrong command line.`,
		Example: `  slipwayd check --role server --peer 10.0.0.12:7422 --peer 10.0.0.13:7422
  slipwayd check --role agent --peer 10.0.0.11:7420 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(cmd.Flags().Changed); err != nil {
				return err
			}
			found := judge(&o, gather(cmd.Context(), &o))
			write := writeFindings
			if o.json {
				write = writeCheckReport
			}
			if err := write(cmd.OutOrStdout(), o.role, found); err != nil {
				return err
			}
			if n := count(found, statusFailed); n > 0 {
				return fmt.Errorf("%w to be %s: %d of %d checks failed", errUnfit, withArticle[o.role], n, len(found))
			}
			return nil
		},
	}
	cmd.Flags().StringVar((*string)(&o.role), "role", string(roleServer), "what the machine is to be: server, agent or dev (both)")
	cmd.Flags().StringVar(&o.dir, "dir", "/var/lib/slipway", "data directory")
	cmd.Flags().StringVar(&o.containerd, "containerd", containerdAuto, "as given to agent or dev")
	cmd.Flags().StringVar(&o.listen, "listen", "", "address whose ports are to be free; all of the machine if empty")
	cmd.Flags().StringVar(&o.networkFlag, "network", "10.192.0.0/10", "addresses of the processes of the rack, as given to its first server")
	cmd.Flags().StringArrayVar(&o.peers, "peer", nil, "HOST:PORT of a machine of the rack that this one has to reach; may be repeated")
	cmd.Flags().IntVar(&o.http, "http", 80, "port of the router for HTTP; 8080 for dev")
	cmd.Flags().IntVar(&o.https, "https", 443, "port of the router for HTTPS; 8443 for dev")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one document")
	return cmd
}

var withArticle = map[checkRole]string{roleServer: "a server", roleAgent: "a node", roleDev: "a rack of its own"}

// complete checks the options, and fills in what depends on the role and was not given.
func (o *checkOptions) complete(given func(flag string) bool) error {
	if withArticle[o.role] == "" {
		return api.Errorf(api.CodeInvalid, "--role %q is not one of server, agent, dev", o.role)
	}
	if o.role == roleDev {
		for flag, to := range map[string]func(){
			"http": func() { o.http = 8080 }, "https": func() { o.https = 8443 },
			"dir": func() { o.dir = ".slipway" }, "listen": func() { o.listen = "127.0.0.1" },
		} {
			if !given(flag) {
				to()
			}
		}
	}
	if o.listen != "" && net.ParseIP(o.listen) == nil {
		return api.Errorf(api.CodeInvalid, "--listen %q is not an address, such as 10.0.0.11", o.listen)
	}
	var err error
	if o.network, err = netip.ParsePrefix(o.networkFlag); err != nil || !o.network.Addr().Is4() {
		return api.Errorf(api.CodeInvalid, "--network %q is not a network of IPv4, such as 10.192.0.0/10", o.networkFlag)
	}
	for _, port := range []int{o.http, o.https} {
		if port < 1 || port > 65535 {
			return api.Errorf(api.CodeInvalid, "port %d is not between 1 and 65535", port)
		}
	}
	for _, p := range o.peers {
		if host, port, err := net.SplitHostPort(p); err != nil || host == "" || port == "" {
			return api.Errorf(api.CodeInvalid, "--peer %q is not HOST:PORT, such as 10.0.0.11:7420", p)
		}
	}
	return nil
}

// outcome is the outcome of one check.
type outcome string

// The outcomes of a check.
const (
	statusOK      outcome = "ok"
	statusWarning outcome = "warning" // it works, not as well as it could
	statusFailed  outcome = "failed"
)

// finding is one line of the answer.
type finding struct {
	Check   string  `json:"check"`  // what was looked at, a stable name
	Object  string  `json:"object"` // which one of them, "" where there is one only
	Status  outcome `json:"status"`
	Message string  `json:"message"`
	Fix     string  `json:"fix,omitempty"` // the command that puts it right
}

// checkReport is the document of --json.
type checkReport struct {
	Role     checkRole `json:"role"`
	Ready    bool      `json:"ready"`
	Findings []finding `json:"findings"`
}

func count(found []finding, s outcome) (n int) {
	for _, f := range found {
		if f.Status == s {
			n++
		}
	}
	return n
}

// writeCheckReport writes the document.
func writeCheckReport(w io.Writer, r checkRole, found []finding) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(checkReport{Role: r, Ready: count(found, statusFailed) == 0, Findings: found})
}

// writeFindings writes a line per finding, with the fix of what is not well below it.
func writeFindings(w io.Writer, _ checkRole, found []finding) error {
	words := map[outcome]string{statusOK: "ok", statusWarning: "warning", statusFailed: "FAILED"}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range found {
		fmt.Fprintf(t, "%s\t%s\t%s\n", words[f.Status], strings.TrimSpace(f.Check+" "+f.Object), f.Message)
		if f.Fix != "" {
			fmt.Fprintf(t, "\t\t→ %s\n", f.Fix)
		}
	}
	warnings := "warnings"
	if count(found, statusWarning) == 1 {
		warnings = "warning"
	}
	fmt.Fprintf(t, "\n%d checks: %d failed, %d %s\n", len(found), count(found, statusFailed), count(found, statusWarning), warnings)
	return t.Flush()
}
