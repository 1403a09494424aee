package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
	"slipway/manifest"
)

func (s *shell) testCommand() *cobra.Command {
	f, release, timeout := &buildFlags{}, "", period(time.Hour)
	c := s.verb(verb{
		use: "test [DIR]", names: directoryNames, short: "Build a directory and run the tests of its services",
		long: "Build a release, and run in it the test command of each service that has one, in the order of the manifest.\n" +
			"The first that fails ends it, with its exit code. The release is not deployed: promote it when all is well.\n" +
			"It is the newest one from then on; with --development, which Convox adds by itself, do not promote it.",
		example: "  slipway test\n  slipway test --development\n  slipway test --release v3 --timeout 10m", args: between(0, 1),
		run: func(ctx context.Context, args []string) error {
			dir := directory(args)
			rack, app, err := s.openIn(ctx, dir)
			if err != nil {
				return err
			}
			s.quiet = f.id
			if release == "" {
				if err := s.ensureApp(ctx, rack, app); err != nil {
					return err
				}
				b, err := s.build(ctx, rack, app, dir, f)
				if err != nil {
					return err
				}
				release = string(b.Release)
			}
			return s.test(ctx, rack, app, release, time.Duration(timeout))
		},
	})
	f.add(c.Flags())
	c.Flags().StringVar(&release, "release", "", "test this release instead of building one")
	c.Flags().VarP(&timeout, "timeout", "t", "how long each test may take; a bare number is seconds")
	return c
}

// tested is what --json prints of a test: the services whose tests passed.
type tested struct {
	Release  api.ReleaseID     `json:"release"`
	Services []api.ServiceName `json:"services"`
}

// test runs the tests of a release.
func (s *shell) test(ctx context.Context, rack *client.Client, app api.AppName, release string, timeout time.Duration) error {
	r, err := rack.Release(ctx, app, release)
	if err != nil {
		return err
	}
	env, _, err := rack.Env(ctx, app, release)
	if err != nil {
		return err
	}
	m, err := manifest.Load(r.Manifest, manifest.Options{Env: env, SkipRequired: true, AllowPrivileged: true})
	if err != nil {
		return fmt.Errorf("manifest of release %s: %w", r.ID, err)
	}
	doc := tested{Release: r.ID}
	for _, service := range m.Services {
		if service.Test == "" {
			continue
		}
		name := service.Spec.Name
		if err := s.testService(ctx, rack, app, client.Run{Service: name, Release: release, Timeout: timeout}, service.Test); err != nil {
			return err
		}
		doc.Services = append(doc.Services, name)
	}
	if len(doc.Services) == 0 {
		return fmt.Errorf("release %s: no service has a test; give one a command: services.NAME.test", r.ID)
	}
	if s.quiet {
		return s.answer(string(r.ID))
	}
	return s.print(doc, func() error { return s.answer(fmt.Sprintf("Release %s passed", r.ID)) })
}

// testService runs the test of one service. What it prints is progress.
func (s *shell) testService(ctx context.Context, rack *client.Client, app api.AppName, r client.Run, line string) error {
	words, err := command([]string{line})
	if err != nil {
		return fmt.Errorf("test of %s: %w", r.Service, err)
	}
	r.Command = words
	s.say("Running %s on %s", oneLine(line), r.Service)
	p, err := rack.Run(ctx, app, r)
	if err != nil {
		return err
	}
	if err := s.awaitNode(ctx, rack, app, p); err != nil {
		return err
	}
	code, err := rack.Attach(ctx, app, p.ID, client.Streams{Out: s.progress(), Err: s.err})
	if err != nil {
		return err
	}
	if code != 0 {
		return &exitError{code, fmt.Errorf("test of %s: exit code %d", r.Service, code)}
	}
	return nil
}
