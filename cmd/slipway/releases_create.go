package main

import (
	"context"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

// parts say whose build and whose environment a new release has; "" is the newest release's.
type parts struct {
	build, env             string
	activeBuild, activeEnv bool
}

func (s *shell) createFromVerb() *cobra.Command {
	p, f := parts{}, envFlags{}
	c := s.verb(verb{
		use: "create-from", short: "Make a release of the build of one and the environment of another",
		long: "Make a release with the build of one release and the environment of another. What is not said is that of\n" +
			"the newest.",
		example: "  slipway releases create-from --build-from v3 --promote\n  slipway releases create-from --use-active-release-build --env-from v5",
		run: func(ctx context.Context, _ []string) error {
			change, err := s.combine(ctx, p)
			if err != nil {
				return err
			}
			return s.changeEnv(ctx, "Creating release", change, f)
		},
	})
	f.add(c)
	c.Flags().StringVar(&p.build, "build-from", "", "the release whose build it has")
	c.Flags().StringVar(&p.env, "env-from", "", "the release whose environment it has")
	c.Flags().BoolVar(&p.activeBuild, "use-active-release-build", false, "the build of the active release")
	c.Flags().BoolVar(&p.activeEnv, "use-active-release-env", false, "the environment of the active release")
	return c
}

// combine finds the parts of a new release.
func (s *shell) combine(ctx context.Context, p parts) (change client.EnvChange, err error) {
	switch {
	case p.activeBuild && p.build != "", p.activeEnv && p.env != "":
		return change, usage("a part of a release comes from the active one or from another, not from both")
	case p == parts{}:
		return change, usage("say whose build or whose environment: --build-from RELEASE, --env-from RELEASE")
	}
	rack, app, err := s.open(ctx)
	if err != nil {
		return change, err
	}
	if p.activeBuild || p.activeEnv {
		info, err := rack.App(ctx, app)
		if err != nil {
			return change, err
		}
		if info.Release == "" {
			return change, api.Errorf(api.CodeConflict, "app %q has no active release; promote one: slipway promote -a %s", app, app)
		}
		if p.activeBuild {
			p.build = string(info.Release)
		}
		if p.activeEnv {
			p.env = string(info.Release)
		}
	}
	if p.build != "" {
		r, err := rack.Release(ctx, app, p.build)
		if err != nil {
			return change, err
		}
		if change.Build = r.Build; r.Build == "" {
			return change, api.Errorf(api.CodeConflict, "release %s of app %q has no build", r.ID, app)
		}
	}
	if p.env != "" {
		change.Set, _, err = rack.Env(ctx, app, p.env)
		change.Replace = true
	}
	return change, err
}
