package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

// The exit codes of the command. run and exec pass on the code of the process instead.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2   // the command line is wrong
	exitConflict    = 3   // the present state of the rack refuses, or there is no room
	exitNotFound    = 4   // something named does not exist
	exitDenied      = 5   // the token may not do this
	exitUnavailable = 6   // the rack does not answer
	exitRolledBack  = 10  // a deployment failed, was cancelled or was overtaken
	exitInterrupted = 130 // by Ctrl-C
)

const exitCodes = `
Exit codes:
  0    done
  1    failed
  2    the command line is wrong
  3    conflict: the present state refuses, or there is no room; what-if and why-not: it does not fit
  4    not found
  5    denied
  6    the rack does not answer
  10   the deployment failed, was cancelled or was overtaken; the rack went back
  130  interrupted
  run and exec pass on the exit code of the process.

With --json, standard output is one document, or one per line of what is followed. An error is one as well:
  {"error": {"code": "not_found", "message": "...", "exit": 4}}`

// exitError ends the command with a code of its own. Without an error nothing is printed.
type exitError struct {
	code int
	err  error
}

// Error implements error.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.err }

// usage is the error of a wrong command line.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env []string) int {
	s := newShell(stdin, stdout, stderr, env)
	root := s.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	s.json = s.json || asksForJSON(args)
	err := root.ExecuteContext(ctx)
	s.close()
	if e, ok := errors.AsType[*exitError](err); err == nil || ok && e.err == nil {
		return exitCode(ctx, err)
	}
	if ctx.Err() == nil {
		fmt.Fprintf(stderr, "ERROR: %s\n", strings.TrimSpace(clean(err.Error())))
	}
	if s.json && !s.told {
		if err := s.row(failed{s.problem(ctx, err)}); err != nil {
			return exitFailure // nobody reads standard output
		}
	}
	return exitCode(ctx, err)
}

// asksForJSON finds --json before a mistake that ends the reading of flags.
func asksForJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.Contains(args, "--json")
}

// failed is what --json prints of a command that failed, if it has printed nothing else.
type failed struct {
	Error problem `json:"error"`
}

// problem is an error as a document.
type problem struct {
	Code    string `json:"code"` // one of api.Code, or usage, rolled_back, interrupted
	Message string `json:"message"`
	Exit    int    `json:"exit"`
}

func (s *shell) problem(ctx context.Context, err error) problem {
	p := problem{Code: string(api.CodeOf(err)), Message: strings.TrimSpace(err.Error()), Exit: exitCode(ctx, err)}
	switch p.Exit {
	case exitUsage:
		p.Code = "usage"
	case exitRolledBack:
		p.Code = "rolled_back"
	case exitInterrupted:
		p.Code, p.Message = "interrupted", "interrupted"
	}
	return p
}

// exitCode maps an error to the code that scripts see.
func exitCode(ctx context.Context, err error) int {
	e, ok := errors.AsType[*exitError](err)
	switch {
	case err == nil:
		return exitOK
	case ok && (e.err == nil || ctx.Err() == nil):
		return e.code
	case ctx.Err() != nil:
		return exitInterrupted
	}
	switch api.CodeOf(err) {
	case api.CodeNotFound:
		return exitNotFound
	case api.CodeConflict:
		return exitConflict
	case api.CodeDenied:
		return exitDenied
	case api.CodeUnavailable, api.CodeNotLeader:
		return exitUnavailable
	}
	return exitFailure
}

// root builds the tree of commands.
func (s *shell) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "slipway",
		Short:         "Build, release and run apps on your own machines",
		Long:          "Slipway builds, releases and runs twelve-factor apps on a rack of your own machines.\n" + exitCodes,
		Example:       "  slipway deploy\n  slipway logs -s web\n  slipway why web",
		SilenceErrors: true, SilenceUsage: true,
		Args: group,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if err := api.CheckReason(s.reason); err != nil {
				return usage("--reason: %w", err)
			}
			c.SetContext(client.WithReason(c.Context(), s.reason))
			return nil
		},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w; see: %s --help", err, c.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVarP(&s.appFlag, "app", "a", "", "name of the app (default: .slipway/app, or the name of the directory)")
	flags.StringVarP(&s.rackFlag, "rack", "r", "", "name of the rack (default: $SLIPWAY_RACK, or the current one)")
	flags.BoolVar(&s.json, "json", false, "print documents instead of tables")
	flags.StringVar(&s.reason, "reason", "", "why something is changed, for the record (see: slipway events)")
	for flag, what := range map[string]named{"app": appNames, "rack": rackNames} {
		complete := s.completion(what)
		err := root.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
			return complete(c, nil, begun)
		})
		if err != nil {
			panic(err) // the flag is missing above
		}
	}
	for _, add := range []func() *cobra.Command{
		s.rackCommand, s.appsCommand, s.buildCommand, s.buildsCommand, s.deployCommand, s.releasesCommand,
		s.promoteCommand, s.envCommand, s.servicesCommand, s.scaleCommand, s.psCommand, s.logsCommand,
		s.execCommand, s.runCommand, s.cpCommand, s.proxyCommand, s.restartCommand, s.whyCommand, s.explainCommand,
		s.whyNotCommand, s.whatIfCommand, s.capacityCommand, s.poolsCommand, s.validateCommand, s.nodesCommand, s.tokensCommand, s.registriesCommand, s.versionCommand, s.loginCommand, s.contextCommand, s.switchCommand, s.testCommand, s.importCommand, s.eventsCommand,
	} {
		root.AddCommand(add())
	}
	acceptGivens(root)
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args, c.RunE = group, func(c *cobra.Command, _ []string) error { return c.Help() }
			c.Example = "  slipway completion bash > /etc/bash_completion.d/slipway"
		}
	}
	return root
}

// verb is a command with a body.
type verb struct {
	use, short, long, example string
	aliases                   []string
	args                      cobra.PositionalArgs
	names, second             named // what the first argument names, and the one after it
	run                       func(ctx context.Context, args []string) error
}

func (s *shell) verb(v verb) *cobra.Command {
	if v.args == nil {
		v.args = group
	}
	return &cobra.Command{
		Use: v.use, Short: v.short, Long: v.long, Example: v.example, Aliases: v.aliases, Args: v.args,
		RunE:              func(c *cobra.Command, args []string) error { return v.run(c.Context(), args) },
		ValidArgsFunction: s.completion(v.names, v.second),
	}
}

// group refuses arguments: what is left of them is a mistyped command.
func group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known []string
	for _, sub := range c.Commands() {
		known = append(known, sub.Name())
	}
	if len(known) == 0 {
		return usage("%s takes no arguments, got %q", c.CommandPath(), args)
	}
	hint := "see: " + c.CommandPath() + " --help"
	_, path, _ := strings.Cut(c.CommandPath(), " ")
	if other := elsewhere()[strings.TrimSpace(path+" "+args[0])]; other != "" {
		hint = other
	} else if near := api.Nearest(args[0], known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return usage("%s has no command %q; %s", c.CommandPath(), args[0], hint)
}

// between accepts least to most arguments; most below 0 is any number.
func between(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return usage("%s takes other arguments; usage: %s", c.CommandPath(), c.UseLine())
		}
		return nil
	}
}
