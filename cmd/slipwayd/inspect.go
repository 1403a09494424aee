package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
	"slipway/server"
	"slipway/server/control"
)

// errNoFit is the answer no to a question whether something fits; the exit code is 3, as that of
// the CLI.
var errNoFit = errors.New("it does not fit")

func inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect FILE QUESTION", Short: "Answer questions about placement from a snapshot, without a rack",
		Long: `Answer questions about placement from a snapshot of a rack's state, without the rack: the same
answers, in the same form, as the CLI gives with --json. FILE is the state.bin of a snapshot in the
data directory of a server. The environment of apps is sealed in it: a manifest is read without one.

Questions:
  explain SERVICE -a APP
  why-not SERVICE NODE -a APP
  what-if node rm NODE | node drain NODE | node add --cpu 4 --memory 8192
  what-if scale SERVICE=COUNT... -a APP
  what-if deploy MANIFEST -a APP
  capacity`,
		Example: "  slipwayd inspect state.bin what-if node rm n3",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := openSnapshot(args[0])
			if err != nil {
				return err
			}
			questions := (&inspector{q: q, out: cmd.OutOrStdout()}).commands()
			questions.SetArgs(args[1:])
			questions.SetOut(cmd.OutOrStdout())
			questions.SetErr(cmd.ErrOrStderr())
			return questions.ExecuteContext(cmd.Context())
		},
	}
	cmd.Flags().SetInterspersed(false) // the flags of a question belong to it
	return cmd
}

// openSnapshot reads a state from a file: bare, or followed by its checksum as servers store it.
func openSnapshot(file string) (*control.Inquiry, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the snapshot: %w", err)
	}
	if n := len(b) - sha256.Size; n > 0 {
		if sum := sha256.Sum256(b[:n]); bytes.Equal(sum[:], b[n:]) {
			b = b[:n]
		} else if !bytes.HasSuffix(b, []byte("}\n")) {
			return nil, api.Errorf(api.CodeInvalid, "%s is damaged, or no snapshot: its checksum is wrong", file)
		}
	}
	s, err := state.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%s is no snapshot of a rack: %w", file, err)
	}
	now := time.Now()
	return &control.Inquiry{
		View: s.View(), Scheduler: server.Planner{}, AllowPrivileged: true, Now: now, IDs: api.NewIDs(uint64(now.UnixNano())),
	}, nil
}

// inspector answers questions with documents.
type inspector struct {
	q   *control.Inquiry
	out io.Writer
	app string
}

// commands is the tree of questions.
func (i *inspector) commands() *cobra.Command {
	root := &cobra.Command{Use: "inspect FILE", SilenceUsage: true, SilenceErrors: true}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().StringVarP(&i.app, "app", "a", "", "name of the app")
	whatIf, node := &cobra.Command{Use: "what-if"}, &cobra.Command{Use: "node"}
	for _, c := range []struct {
		under *cobra.Command
		use   string
		args  cobra.PositionalArgs
		run   func(args []string) error
	}{
		{root, "explain SERVICE", cobra.ExactArgs(1), i.explain},
		{root, "why-not SERVICE NODE", cobra.ExactArgs(2), i.whyNot},
		{root, "capacity", cobra.NoArgs, func([]string) error { return i.print(i.q.Capacity()) }},
		{node, "rm NODE", cobra.ExactArgs(1), func(args []string) error {
			return i.whatIf(&pb.WhatIfRequest{Change: &pb.WhatIfRequest_RemoveNode{RemoveNode: args[0]}})
		}},
		{node, "drain NODE", cobra.ExactArgs(1), func(args []string) error {
			return i.whatIf(&pb.WhatIfRequest{Change: &pb.WhatIfRequest_DrainNode{DrainNode: args[0]}})
		}},
		{whatIf, "scale SERVICE=COUNT...", cobra.MinimumNArgs(1), i.scale},
		{whatIf, "deploy MANIFEST", cobra.ExactArgs(1), i.deploy},
	} {
		c.under.AddCommand(&cobra.Command{Use: c.use, Args: c.args, RunE: func(_ *cobra.Command, args []string) error { return c.run(args) }})
	}
	node.AddCommand(i.addCommand())
	whatIf.AddCommand(node)
	root.AddCommand(whatIf)
	return root
}

// print writes a document as the CLI does.
func (i *inspector) print(doc any) error {
	e := json.NewEncoder(i.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}

func (i *inspector) explain(args []string) error {
	e, err := i.q.Explain(i.app, args[0])
	if err != nil {
		return err
	}
	return i.print(e)
}

func (i *inspector) whyNot(args []string) error {
	w, err := i.q.WhyNot(i.app, args[0], args[1])
	if err != nil {
		return err
	}
	return i.fitting(w, len(w.Reasons) == 0)
}

// whatIf answers what would follow from a change.
func (i *inspector) whatIf(r *pb.WhatIfRequest) error {
	r.App = i.app
	w, err := i.q.WhatIf(r)
	if err != nil {
		return err
	}
	return i.fitting(w, w.Fits)
}

func (i *inspector) fitting(doc any, fits bool) error {
	if err := i.print(doc); err != nil {
		return err
	}
	if !fits {
		return errNoFit
	}
	return nil
}

func (i *inspector) scale(args []string) error {
	counts := map[string]int64{}
	for _, arg := range args {
		service, n, ok := strings.Cut(arg, "=")
		many, err := strconv.ParseInt(n, 10, 64)
		if !ok || err != nil {
			return api.Errorf(api.CodeInvalid, "what-if scale takes SERVICE=COUNT, got %q", arg)
		}
		counts[service] = many
	}
	return i.whatIf(&pb.WhatIfRequest{Change: &pb.WhatIfRequest_Scale{Scale: &pb.NewScale{Counts: counts}}})
}

func (i *inspector) deploy(args []string) error {
	text, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("read the manifest: %w", err)
	}
	return i.whatIf(&pb.WhatIfRequest{Change: &pb.WhatIfRequest_Deploy{Deploy: string(text)}})
}

func (i *inspector) addCommand() *cobra.Command {
	var cpu, memory, count int64
	var pool string
	var labels map[string]string
	c := &cobra.Command{Use: "add", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		n := api.Node{Pool: api.PoolName(pool), Labels: labels}
		n.Capacity = api.Amount{CPU: api.MilliCPU(min(max(cpu, -1), 1<<30)) * 1000, Memory: api.Bytes(min(max(memory, -1), 1<<30)) * api.MiB}
		add := &pb.NewNodes{Count: int32(min(max(count, -1), 1<<30)), Node: pb.Marshal(n)}
		return i.whatIf(&pb.WhatIfRequest{Change: &pb.WhatIfRequest_AddNodes{AddNodes: add}})
	}}
	c.Flags().Int64Var(&cpu, "cpu", 0, "cores of a node")
	c.Flags().Int64Var(&memory, "memory", 0, "memory of a node in MiB")
	c.Flags().StringVar(&pool, "pool", "", "pool that they join")
	c.Flags().StringToStringVar(&labels, "label", nil, "label of a node, NAME=VALUE; may be repeated")
	c.Flags().Int64Var(&count, "count", 1, "how many")
	return c
}
