package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
	"slipway/durable"
)

func (s *shell) exportBuildCommand() *cobra.Command {
	file := ""
	c := s.verb(verb{
		use: "export [BUILD]", names: buildNames, short: "Write a build with its images to a file", args: between(0, 1),
		long: "Write a build with its images to a file, or to standard output; without an ID, the newest that is complete. The\n" +
			"environment is not in it. Racks of Slipway and of Convox import it.",
		example: "  slipway builds export BABCDEFGHIJ -f build.tgz\n  slipway builds export -a staging > build.tgz",
		run:     func(ctx context.Context, args []string) error { return s.exportBuild(ctx, first(args), file) },
	})
	c.Flags().StringVarP(&file, "file", "f", "", "where to write it; standard output by default")
	return c
}

func (s *shell) exportBuild(ctx context.Context, id, file string) error {
	if err := s.checkTarget(file); err != nil {
		return err
	}
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	if id == "" {
		if id, err = newestComplete(ctx, rack, app); err != nil {
			return err
		}
	}
	write := func(w io.Writer) error { return rack.ExportBuild(ctx, app, id, w) }
	return s.writeTarget(file, write, map[string]any{"build": id})
}

// checkTarget refuses to mix bytes with what else a terminal or a program would read.
func (s *shell) checkTarget(file string) error {
	if file == "" && terminal(s.out) != nil {
		return usage("an archive is no text for a terminal; give a file with -f")
	}
	if file == "" && s.json {
		return usage("with --json, a file is needed: standard output is for the answer; give one with -f")
	}
	return nil
}

// writeTarget writes an archive to a file, whole or not at all, or to standard output.
func (s *shell) writeTarget(file string, write func(io.Writer) error, doc map[string]any) error {
	if file == "" {
		return write(s.out)
	}
	err := s.step("Writing "+oneLine(file), func() (string, error) {
		size, err := durable.Write(file, write)
		doc["file"], doc["bytes"] = file, size
		return api.Bytes(size).String(), err
	})
	if err != nil {
		return err
	}
	return s.print(doc, nothing)
}

// newestComplete returns the newest build that can be exported.
func newestComplete(ctx context.Context, rack *client.Client, app api.AppName) (string, error) {
	builds, err := rack.Builds(ctx, app)
	if err != nil {
		return "", err
	}
	for _, b := range builds {
		if b.Status == api.BuildComplete {
			return string(b.ID), nil
		}
	}
	return "", api.Errorf(api.CodeNotFound, "app %q has no build that is complete; make one with: slipway build -a %s", app, app)
}

func (s *shell) importBuildCommand() *cobra.Command {
	file, id := "", false
	c := s.verb(verb{
		use: "import", short: "Make a build and a release of an exported build",
		long: "Make a build and a release of what `slipway builds export` or `convox builds export` wrote, from a file or from\n" +
			"standard input. The release has the environment of the app's newest one; it is not promoted.",
		example: "  slipway builds import -f build.tgz\n  slipway builds import -a production < build.tgz",
		run: func(ctx context.Context, _ []string) error {
			s.quiet = id
			return s.importBuild(ctx, file)
		},
	})
	c.Flags().StringVarP(&file, "file", "f", "", "where to read it; standard input by default")
	c.Flags().BoolVar(&id, "id", false, "print only the ID of the release to standard output")
	return c
}

func (s *shell) importBuild(ctx context.Context, file string) error {
	in := s.in
	switch {
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("read the build: %w", err)
		}
		defer f.Close()
		in = f
	case terminal(s.in) != nil:
		return usage("a build cannot be typed; give a file with -f")
	}
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	var b api.BuildInfo
	err = s.step("Importing build", func() (string, error) {
		b, err = rack.ImportBuild(ctx, app, in)
		return "", err
	})
	if err != nil {
		return err
	}
	s.say("Build:   %s", b.ID)
	s.say("Release: %s", b.Release)
	if s.quiet && !s.json {
		return s.answer(string(b.Release))
	}
	return s.print(b, nothing)
}
