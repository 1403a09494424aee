package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) deployCommand() *cobra.Command {
	f := &buildFlags{}
	wait, attach := true, false
	c := s.verb(verb{
		use: "deploy [DIR]", short: "Build a directory and deploy it",
		long: "Send the source to the rack, build it, and move the app to the new release without dropping a request.\n" +
			"Ends when every copy is ready and nothing of the old release runs any more. If the new release does not\n" +
			"become healthy, the rack goes back to the old one and the command exits with 10.\n" +
			"A deployment belongs to the rack: interrupting the command does not stop it; follow it again with --attach.",
		example: "  slipway deploy\n  slipway deploy -d \"fix the login\"\n  slipway deploy --attach", args: between(0, 1),
		run: func(ctx context.Context, args []string) error {
			dir := directory(args)
			rack, app, err := s.openIn(ctx, dir)
			if err != nil {
				return err
			}
			s.quiet = f.id
			if attach {
				return s.watchDeployment(ctx, rack, app, "", f.id)
			}
			if err := s.ensureApp(ctx, rack, app); err != nil {
				return err
			}
			b, err := s.build(ctx, rack, app, dir, f)
			if err != nil {
				return err
			}
			return s.promote(ctx, rack, app, string(b.Release), promotion{wait: wait, id: f.id})
		},
	})
	f.add(c.Flags())
	c.Flags().BoolVarP(&wait, "wait", "w", true, "wait until the deployment has ended")
	c.Flags().BoolVar(&attach, "attach", false, "follow the newest deployment of the app instead of starting one")
	return c
}

// ensureApp creates an app that does not exist, unless its name looks like a slip of another.
func (s *shell) ensureApp(ctx context.Context, rack *client.Client, app api.AppName) error {
	_, err := rack.App(ctx, app)
	if api.CodeOf(err) != api.CodeNotFound {
		return err
	}
	if strings.Contains(err.Error(), "did you mean") {
		return api.Errorf(api.CodeNotFound, "%w; if it is a new app, run: slipway apps create %s", err, app)
	}
	return s.step("Creating "+string(app), func() (string, error) {
		_, err := rack.CreateApp(ctx, app)
		return "", err
	})
}
