package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/e2e/sim"
)

// errBroken ends a simulation that broke an invariant; the summary has said which.
var errBroken = errors.New("an invariant is broken")

func simCommand() *cobra.Command {
	var cfg sim.Config
	var faults, report string
	cmd := &cobra.Command{
		Use: "sim", Args: cobra.NoArgs, Short: "Simulate a rack under faults, in virtual time",
		Long: `Simulate a rack in virtual time: servers, nodes, network, disks and clocks, with the decisions
that a real rack takes, under faults. Equal seeds have equal outputs. Every hour ends with a calm
in which the rack has to have all that is wanted. When an invariant breaks, the last decisions are
printed and the exit status is 1.`,
		Example: "  slipwayd sim --seed 7 --servers 5 --nodes 1000 --hours 24\n  slipwayd sim --seed 7 --faults crash,torn --trace",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch faults {
			case "all":
				cfg.Faults = sim.Faults
			case "none":
			default:
				cfg.Faults = strings.Split(faults, ",")
			}
			if err := cfg.Check(); err != nil {
				return err
			}
			r := sim.Run(cfg)
			out := cmd.OutOrStdout()
			if cfg.Trace || len(r.Broken) > 0 {
				fmt.Fprintln(out, strings.TrimRight(r.Trace, "\n"))
			}
			fmt.Fprint(out, r.Text())
			if report != "" {
				if err := writeReport(report, r); err != nil {
					return err
				}
			}
			if len(r.Broken) > 0 {
				return errBroken
			}
			return nil
		},
	}
	cmd.Flags().Uint64Var(&cfg.Seed, "seed", 1, "of everything that is random")
	cmd.Flags().IntVar(&cfg.Servers, "servers", 3, "servers: 1, 3 or 5")
	cmd.Flags().IntVar(&cfg.Nodes, "nodes", 10, "nodes")
	cmd.Flags().IntVar(&cfg.Hours, "hours", 1, "simulated hours")
	cmd.Flags().StringVar(&faults, "faults", "all", "all, none, or a list: "+strings.Join(sim.Faults, ","))
	cmd.Flags().BoolVar(&cfg.Trace, "trace", false, "print every decision")
	cmd.Flags().StringVar(&report, "report", "", "directory for a page with pictures")
	return cmd
}

// writeReport writes the page of a run and its pictures.
func writeReport(dir string, r sim.Result) error {
	files := r.Series.Pictures()
	files["report.md"] = r.Page()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return api.Errorf(api.CodeInvalid, "make the directory of the report: %w", err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return api.Errorf(api.CodeInvalid, "write the report: %w", err)
		}
	}
	return nil
}
