package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"slipway/agent/build"
	"slipway/api"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "slipwayd:", err)
		stop()
		os.Exit(exitCode(err))
	}
}

// exitCode is 2 for what the caller wrote wrong, 3 for what does not fit and 1 for everything else.
func exitCode(err error) int {
	switch {
	case errors.Is(err, errNoFit):
		return 3
	case api.CodeOf(err) == api.CodeInvalid:
		return 2
	}
	return 1
}

// run is the whole program, as tests call it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	root := &cobra.Command{
		Use: "slipwayd", Short: "The daemon of a Slipway rack", Version: version, SilenceUsage: true, SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(
		devCommand(), serverCommand(), agentCommand(), routerCommand(), downCommand(), imageCommand(), inspectCommand(), simCommand(), checkCommand(), restoreCommand(), recoverCommand(),
		&cobra.Command{
			Use: "builder", Short: "Build images; started by the agent", Hidden: true, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return build.ChildMain(cmd.Context(), cmd.InOrStdin()) },
		},
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
		},
	)
	err := root.ExecuteContext(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// newLogger writes to a file, or to stderr when path is empty.
func newLogger(path string, debug bool) (*slog.Logger, error) {
	out := io.Writer(os.Stderr)
	if path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		out = f
	}
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})), nil
}
