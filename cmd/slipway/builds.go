package main

import (
	"context"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) buildsCommand() *cobra.Command {
	limit := 0
	list := func(ctx context.Context, _ []string) error { return s.listBuilds(ctx, limit) }
	c := s.verb(verb{
		use: "builds", short: "List the builds of an app", example: "  slipway builds\n  slipway builds logs BABCDEFGHIJ",
		long: "List the builds of an app, newest first.", run: list,
	})
	c.PersistentFlags().IntVarP(&limit, "limit", "l", 20, "how many to list; 0 lists all")
	c.AddCommand(
		s.verb(verb{use: "list", short: "List builds", long: "List the builds of an app, newest first.", example: "  slipway builds list", run: list}),
		s.verb(verb{
			use: "info [BUILD]", names: buildNames, short: "Describe a build", long: "Describe a build; without an ID, the newest.",
			example: "  slipway builds info BABCDEFGHIJ", args: between(0, 1),
			run: func(ctx context.Context, args []string) error { return s.buildInfo(ctx, first(args)) },
		}),
		s.verb(verb{
			use: "logs [BUILD]", names: buildNames, short: "Print the log of a build", example: "  slipway builds logs",
			long: "Print the log of a build, and follow it while it runs; without an ID, of the newest.", args: between(0, 1),
			run: func(ctx context.Context, args []string) error { return s.buildLogs(ctx, first(args)) },
		}),
		s.exportBuildCommand(), s.importBuildCommand(),
	)
	return c
}

// first returns the first argument, or "".
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// newest cuts a list that has the newest first.
func newest[T any](all []T, limit int) []T {
	if limit > 0 && len(all) > limit {
		return all[:limit]
	}
	return all
}

func (s *shell) listBuilds(ctx context.Context, limit int) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	builds, err := rack.Builds(ctx, app)
	if err != nil {
		return err
	}
	builds = newest(builds, limit)
	return s.print(builds, func() error {
		var rows [][]string
		for _, b := range builds {
			rows = append(rows, []string{
				string(b.ID), string(b.Status), string(b.Release), s.ago(b.Started), elapsed(b.Started, b.Ended), b.Description,
			})
		}
		return s.table([]string{"ID", "STATUS", "RELEASE", "STARTED", "ELAPSED", "DESCRIPTION"}, rows)
	})
}

func (s *shell) buildInfo(ctx context.Context, id string) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	b, err := rack.Build(ctx, app, id)
	if err != nil {
		return err
	}
	return s.print(b, func() error {
		return s.block("Id", string(b.ID), "Status", string(b.Status), "Release", string(b.Release), "Description", b.Description,
			"Author", b.Author, "Commit", b.GitSHA, "Started", s.ago(b.Started), "Elapsed", elapsed(b.Started, b.Ended),
			"Process", string(b.Process), "Failure", b.Failure)
	})
}

func (s *shell) buildLogs(ctx context.Context, id string) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	b, err := rack.Build(ctx, app, id)
	if err != nil {
		return err
	}
	return rack.WatchBuild(ctx, app, b.ID, !b.Status.Ended(), func(lines []api.LogLine) error {
		for _, l := range lines {
			if s.json {
				if err := s.row(l); err != nil {
					return err
				}
				continue
			}
			if err := s.answer(clean(l.Text)); err != nil {
				return err
			}
		}
		return nil
	})
}
