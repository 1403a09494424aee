package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

// promotion says how a promotion is told.
type promotion struct {
	wait bool
	id   bool // print only the ID of the release
}

func (s *shell) promoteCommand() *cobra.Command {
	c := s.promoteVerb()
	c.Example = "  slipway promote"
	return c
}

// promoteVerb is `promote` and `releases promote` alike.
func (s *shell) promoteVerb() *cobra.Command {
	p := promotion{}
	c := s.verb(verb{
		use: "promote [RELEASE]", names: releaseNames, short: "Deploy a release",
		long: "Move the app to a release, by default the newest. A release older than the active one is refused:\n" +
			"going back is `slipway releases rollback`.",
		example: "  slipway releases promote RABCDEFGHIJ", args: between(0, 1),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			return s.promote(ctx, rack, app, first(args), p)
		},
	})
	c.Flags().BoolVarP(&p.wait, "wait", "w", true, "wait until the deployment has ended")
	return c
}

// promote deploys a release; "" is the newest.
func (s *shell) promote(ctx context.Context, rack *client.Client, app api.AppName, release string, p promotion) error {
	what := release
	if what == "" {
		what = "newest release"
	}
	var d api.Deployment
	err := s.step("Promoting "+what, func() (string, error) {
		var err error
		d, err = rack.Promote(ctx, app, release)
		return string(d.ID), err
	})
	if err != nil {
		return err
	}
	return s.afterPromotion(ctx, rack, app, d, p)
}

// afterPromotion follows a deployment, or only names it.
func (s *shell) afterPromotion(ctx context.Context, rack *client.Client, app api.AppName, d api.Deployment, p promotion) error {
	if p.wait {
		return s.watchDeployment(ctx, rack, app, string(d.ID), p.id)
	}
	if p.id {
		return s.answer(string(d.Release))
	}
	return s.print(d, func() error {
		return s.answer(fmt.Sprintf("Follow it with: slipway deploy --attach -a %s", app))
	})
}
