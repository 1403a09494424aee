package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// given is a flag of Convox that asks for what the rack does anyway. Scripts may go on giving it;
// no help shows it. docs/convox.md lists them.
type given struct {
	verb, flag, short string
	// values are what may be asked for; other values are refused with why.
	values []string
	why    string
}

// Without further values, a flag is a switch that is on.
var on = []string{"true"}

// givens lists those flags. A deployment takes the place of the one in progress, so that none needs
// force; the environment is shown as it is; an app is there as soon as it is created; one-offs go
// through the entrypoint of their image.
func givens() []given {
	newest := "a newer deployment always takes the place of the one in progress"
	return []given{
		{"apps create", "generation", "g", []string{"2", "3"}, "manifests of both generations are read, and say themselves which they are of"},
		{"apps create", "wait", "w", on, "an app is there at once"},
		{"deploy", "force", "", on, newest},
		{"promote", "force", "", on, newest},
		{"releases promote", "force", "", on, newest},
		{"env", "reveal", "", on, "the environment is shown to all who may deploy"},
		{"env list", "reveal", "", on, "the environment is shown to all who may deploy"},
		{"logs", "allow-previous", "", on, "processes that have ended are in the log; --previous=false leaves them out"},
		{"run", "entrypoint", "e", on, "commands go through the entrypoint of the image, as the service's own does"},
	}
}

// String implements pflag.Value.
func (g given) String() string { return g.values[0] }

// Type implements pflag.Value.
func (g given) Type() string { return "string" }

// Set implements pflag.Value.
func (g given) Set(value string) error {
	if !slices.Contains(g.values, value) {
		return fmt.Errorf("%s", g.why)
	}
	return nil
}

// acceptGivens adds the flags to their verbs.
func acceptGivens(root *cobra.Command) {
	for _, g := range givens() {
		c, _, err := root.Find(strings.Fields(g.verb))
		if err != nil || c.CommandPath() != root.Name()+" "+g.verb {
			panic("no verb " + g.verb) // the table is wrong
		}
		f := c.Flags().VarPF(g, g.flag, g.short, g.why)
		f.Hidden = true
		if len(g.values) == 1 {
			f.NoOptDefVal = g.values[0]
		}
	}
}

// elsewhere has the verbs of Convox that are not here, and what to do instead.
func elsewhere() map[string]string {
	const (
		resources = "the rack has no backing services yet; give the app the URL of one: slipway env set DATABASE_URL=..."
		certs     = "the rack makes the certificates of its routes itself"
		packages  = "a rack is installed and upgraded by its packages; see docs/operate.md"
		params    = "there are no parameters; what an app needs stands in its manifest"
		scaling   = "machines join and leave by themselves; see docs/operate.md"
	)
	return map[string]string{
		"resources":           resources,
		"rack resources":      resources,
		"certs":               certs,
		"ssl":                 certs,
		"letsencrypt":         certs,
		"start":               "there is no local mode of the CLI; run a rack on this machine: slipwayd dev",
		"balancers":           "raw TCP and UDP have no balancers yet; give the service host ports (hostPorts)",
		"update":              packages,
		"api":                 "the rack API answers on the rack's HTTPS port: GET /openapi.json describes it",
		"config":              "apps have no config files yet; use the environment",
		"configs":             "apps have no config files yet; use the environment",
		"budget":              "the rack counts no costs",
		"cost":                "the rack counts no costs",
		"deploy-debug":        "ask for the causes: slipway why SERVICE",
		"workflows":           "workflows belong to a CI; see docs/ci.md",
		"runtimes":            "a rack has no runtimes to attach to",
		"apps params":         params,
		"rack params":         params,
		"builds import-image": "images of others are taken from the manifest: image: NAME",
		"env mask":            "who may not deploy sees no environment; see docs/access.md",
		"services update":     "scale a service: slipway scale SERVICE=COUNT; all else stands in the manifest",
		"services triggers":   "autoscaling stands in the manifest",
		"instances ssh":       "nodes are entered by the means of their own",
		"instances keyroll":   "nodes are entered by the means of their own",
		"rack install":        packages,
		"rack uninstall":      packages,
		"rack update":         "a rack is upgraded machine by machine: slipway rack upgrade",
		"rack releases":       packages,
		"rack scale":          scaling,
		"rack runtime":        scaling,
		"rack sync":           "a rack has nothing to sync with",
		"rack kubeconfig":     "there is no Kubernetes",
		"rack mv":             "a rack has no owner elsewhere",
	}
}

// period is a length of time; a bare number is seconds, as Convox counts them.
type period time.Duration

// String implements pflag.Value.
func (p *period) String() string { return time.Duration(*p).String() }

// Type implements pflag.Value.
func (p *period) Type() string { return "duration" }

// Set implements pflag.Value.
func (p *period) Set(text string) error {
	if _, err := strconv.Atoi(text); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	*p = period(d)
	return err
}

var (
	_ pflag.Value = given{}
	_ pflag.Value = new(period)
)
