package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"slipway/api"
	"slipway/api/client"
)

// buildFlags are what build and deploy share.
type buildFlags struct {
	manifest, description string
	args                  []string
	noCache, development  bool
	id                    bool
	promote               bool // no flag: deploy does, build does not
}

func (f *buildFlags) add(flags *pflag.FlagSet) {
	flags.StringVarP(&f.manifest, "manifest", "m", "", "the manifest (default: slipway.yml, or convox.yml)")
	flags.StringVarP(&f.description, "description", "d", "", "what this build is (default: the commit, if all is committed)")
	flags.StringArrayVar(&f.args, "build-args", nil, "a build argument, NAME=VALUE; may be repeated")
	flags.BoolVar(&f.noCache, "no-cache", false, "build every step again")
	flags.BoolVar(&f.development, "development", false, "build the stage named development")
	flags.BoolVar(&f.id, "id", false, "print only the ID of the release to standard output")
}

// options reads the flags that the builder gets.
func (f *buildFlags) options() (api.BuildOptions, error) {
	o := api.BuildOptions{NoCache: f.noCache, Development: f.development}
	for _, arg := range f.args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return o, usage("--build-args takes NAME=VALUE, got %q", arg)
		}
		if o.Args == nil {
			o.Args = map[string]string{}
		}
		o.Args[name] = value
	}
	return o, nil
}

func (s *shell) buildCommand() *cobra.Command {
	f := &buildFlags{}
	c := s.verb(verb{
		use: "build [DIR]", names: directoryNames, short: "Build a release without deploying it",
		long: "Send the source to the rack, build its images and make a release of them.\n" +
			"What .dockerignore names is not sent; a source that the rack has is not sent again.",
		example: "  slipway build\n  slipway build services/api -a api --build-args VERSION=2", args: between(0, 1),
		run: func(ctx context.Context, args []string) error {
			dir := directory(args)
			rack, app, err := s.openIn(ctx, dir)
			if err != nil {
				return err
			}
			s.quiet = f.id
			b, err := s.build(ctx, rack, app, dir, f)
			if err != nil {
				return err
			}
			if f.id {
				return s.answer(string(b.Release))
			}
			return s.print(b, nothing)
		},
	})
	f.add(c.Flags())
	return c
}

func directory(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

// answer prints one line to standard output, whatever progress does.
func (s *shell) answer(text string) error {
	_, err := fmt.Fprintln(s.out, text)
	return err
}

// build builds a directory, from its source to a release.
func (s *shell) build(ctx context.Context, rack *client.Client, app api.AppName, dir string, f *buildFlags) (api.BuildInfo, error) {
	var b api.BuildInfo
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return b, usage("%s is not a directory", dir)
	}
	options, err := f.options()
	if err != nil {
		return b, err
	}
	options.Promote = f.promote
	m, err := readManifest(dir, f.manifest)
	if err != nil {
		return b, err
	}
	if err := m.check(); err != nil {
		return b, err
	}
	digest, err := s.sendSource(ctx, rack, app, dir, m)
	if err != nil {
		return b, err
	}
	sha, description := s.describe(ctx, dir)
	if f.description != "" {
		description = f.description
	}
	err = s.step("Starting build", func() (string, error) {
		b, err = rack.CreateBuild(ctx, app, client.Build{
			Source: digest, Manifest: m.text, ManifestFile: m.name, Description: description, GitSHA: sha, Options: options,
		})
		return "", err
	})
	if err != nil {
		return b, err
	}
	return s.followBuild(ctx, rack, app, b)
}

// followBuild prints the log of a build until it has ended. What was printed before the rack
// went away is not printed again when it is back.
func (s *shell) followBuild(ctx context.Context, rack *client.Client, app api.AppName, b api.BuildInfo) (api.BuildInfo, error) {
	id, printed := b.ID, 0
	err := s.persist(ctx, true, func(heard func()) error {
		seen := 0
		err := rack.WatchBuild(ctx, app, id, true, func(lines []api.LogLine) error {
			heard()
			for _, l := range lines {
				if l.Stream != "system" {
					seen++
				}
				if seen > printed || l.Stream == "system" {
					s.say("%s", clean(l.Text))
				}
			}
			printed = max(printed, seen)
			return nil
		})
		if err != nil {
			return err
		}
		ended, err := rack.Build(ctx, app, string(id))
		if err == nil {
			b = ended
		}
		return err
	})
	switch {
	case ctx.Err() != nil && b.Promote:
		s.goesOn("deployment", "deploy --attach", app)
		return b, ctx.Err()
	case ctx.Err() != nil:
		s.goesOn("build", "builds logs "+string(id), app)
		return b, ctx.Err()
	case err != nil:
		return b, err
	}
	if b.Status != api.BuildComplete {
		return b, fmt.Errorf("build %s %s: %s", b.ID, b.Status, b.Failure)
	}
	s.say("Build:   %s", b.ID)
	s.say("Release: %s", b.Release)
	return b, nil
}
