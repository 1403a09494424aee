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
		use: "deploy [DIR]", names: directoryNames, short: "Build a directory and deploy it",
		long: "Send the source to the rack, build it, and move the app to the new release without dropping a request.\n" +
			"Ends when every copy is ready and nothing of the old release runs any more. If the new release does not\n" +
			"become healthy, the rack goes back to the old one and the command exits with 10.\n" +
			"A deployment belongs to the rack: once the source is uploaded, the end of this command does not stop it.\n" +
			"Follow it again, from any machine, with --attach.",
		example: "  slipway deploy\n  slipway deploy -d \"fix the login\"\n  slipway deploy --attach", args: between(0, 1),
		run: func(ctx context.Context, args []string) error {
			dir := directory(args)
			rack, app, err := s.openIn(ctx, dir)
			if err != nil {
				return err
			}
			s.quiet = f.id
			if attach {
				return s.attachDeployment(ctx, rack, app, promotion{wait: wait, id: f.id})
			}
			if err := s.ensureApp(ctx, rack, app); err != nil {
				return err
			}
			f.promote = true
			b, err := s.build(ctx, rack, app, dir, f)
			if err != nil {
				return err
			}
			return s.afterBuild(ctx, rack, app, b, promotion{wait: wait, id: f.id})
		},
	})
	f.add(c.Flags())
	c.Flags().BoolVarP(&wait, "wait", "w", true, "wait until the deployment has ended")
	c.Flags().BoolVar(&attach, "attach", false, "follow the newest deployment of the app instead of starting one")
	return c
}

// afterBuild goes on with the deployment that the rack began when it had built.
func (s *shell) afterBuild(ctx context.Context, rack *client.Client, app api.AppName, b api.BuildInfo, p promotion) error {
	var d api.Deployment
	err := s.step("Promoting "+string(b.Release), func() (string, error) {
		if b.Deployment == "" {
			return "", api.Errorf(api.CodeConflict, "build %s was not promoted: app %q is being deleted", b.ID, app)
		}
		var err error
		d, err = rack.Deployment(ctx, app, string(b.Deployment))
		return string(d.ID), err
	})
	if err != nil {
		return err
	}
	return s.afterPromotion(ctx, rack, app, d, p)
}

// attachDeployment follows the newest deployment of an app; before it there may be a build that
// has not ended.
func (s *shell) attachDeployment(ctx context.Context, rack *client.Client, app api.AppName, p promotion) error {
	builds, err := rack.Builds(ctx, app)
	if err != nil {
		return err
	}
	for _, b := range builds {
		if b.Status.Ended() || !b.Promote {
			continue
		}
		b, err := s.followBuild(ctx, rack, app, b)
		if err != nil {
			return err
		}
		return s.afterBuild(ctx, rack, app, b, p)
	}
	return s.watchDeployment(ctx, rack, app, "", p.id)
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
