package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) appsCommand() *cobra.Command {
	c := s.verb(verb{
		use: "apps", short: "List and change apps", example: "  slipway apps\n  slipway apps create hello",
		long: "List the apps of the rack. The sub-commands create, describe and remove one.",
		run:  func(ctx context.Context, _ []string) error { return s.listApps(ctx) },
	})
	wait := true
	remove := s.verb(verb{
		use: "delete NAME", names: appNames, short: "Stop an app and remove it with its builds and releases",
		long: "Stop an app and remove everything the rack knows of it. The name must be given: it is the confirmation.\n" +
			"A locked app is refused.",
		example: "  slipway apps delete hello", args: between(1, 1),
		run: func(ctx context.Context, args []string) error { return s.deleteApp(ctx, api.AppName(args[0]), wait) },
	})
	remove.Flags().BoolVarP(&wait, "wait", "w", true, "wait until the app is gone")
	c.AddCommand(
		s.verb(verb{
			use: "list", short: "List apps", long: "List the apps of the rack.", example: "  slipway apps list",
			run: func(ctx context.Context, _ []string) error { return s.listApps(ctx) },
		}),
		s.verb(verb{
			use: "create [NAME]", short: "Create an app", example: "  slipway apps create hello", args: between(0, 1),
			long: "Create an app. Its name is part of its domain: <service>.<app>.<domain of the rack>.",
			run: s.withApp(func(ctx context.Context, rack *client.Client, app api.AppName) error {
				return s.createApp(ctx, rack, app)
			}),
		}),
		s.verb(verb{
			use: "info [NAME]", names: appNames, short: "Describe an app", long: "Describe an app.", example: "  slipway apps info hello",
			args: between(0, 1),
			run:  s.withApp(s.appInfo),
		}),
		remove,
		s.verb(verb{
			use: "cancel [NAME]", names: appNames, short: "Cancel the deployment in progress", example: "  slipway apps cancel hello",
			long: "Cancel the deployment in progress: the app goes back to the release before it.", args: between(0, 1),
			run: s.withApp(s.cancelDeployment),
		}),
		s.verb(verb{
			use: "wait [NAME]", names: appNames, short: "Wait until no deployment is in progress", example: "  slipway apps wait hello",
			long: "Follow the build and the deployment that are in progress, and exit as they do. Without any, it is done at once.", args: between(0, 1),
			run: s.withApp(s.waitForApp),
		}),
		s.verb(verb{
			use: "lock [NAME]", names: appNames, short: "Protect an app from being deleted", example: "  slipway apps lock hello",
			long: "Protect an app from being deleted until it is unlocked.", args: between(0, 1),
			run: s.withApp(s.lockApp(true)),
		}),
		s.verb(verb{
			use: "unlock [NAME]", names: appNames, short: "Allow an app to be deleted", example: "  slipway apps unlock hello",
			long: "Take the protection off that lock gave.", args: between(0, 1),
			run: s.withApp(s.lockApp(false)),
		}),
		s.exportAppCommand(), s.importAppCommand(),
	)
	return c
}

// withApp makes a body of a function of one app, which an argument may name.
func (s *shell) withApp(do func(context.Context, *client.Client, api.AppName) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if err := s.nameApp(args); err != nil {
			return err
		}
		rack, app, err := s.open(ctx)
		if err != nil {
			return err
		}
		return do(ctx, rack, app)
	}
}

// nameApp lets an argument name the app.
func (s *shell) nameApp(args []string) error {
	if len(args) == 0 {
		return nil
	}
	if s.appFlag != "" && s.appFlag != args[0] {
		return usage("two apps are named: %q and -a %q", args[0], s.appFlag)
	}
	s.appFlag = args[0]
	return nil
}

func (s *shell) listApps(ctx context.Context) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	apps, err := rack.Apps(ctx)
	if err != nil {
		return err
	}
	return s.print(apps, func() error {
		var rows [][]string
		for _, a := range apps {
			rows = append(rows, []string{string(a.Name), a.Status, string(a.Release)})
		}
		return s.table([]string{"APP", "STATUS", "RELEASE"}, rows)
	})
}

func (s *shell) createApp(ctx context.Context, rack *client.Client, app api.AppName) error {
	var info api.AppInfo
	err := s.step("Creating "+string(app), func() (string, error) {
		var err error
		info, err = rack.CreateApp(ctx, app)
		return "", err
	})
	if err != nil {
		return err
	}
	return s.print(info, nothing)
}

// nothing prints nothing: progress has told it all.
func nothing() error { return nil }

func (s *shell) appInfo(ctx context.Context, rack *client.Client, app api.AppName) error {
	info, err := rack.App(ctx, app)
	if err != nil {
		return err
	}
	return s.print(info, func() error {
		locked := "false"
		if info.Locked {
			locked = "true"
		}
		return s.block("Name", string(info.Name), "Status", info.Status, "Locked", locked, "Release", string(info.Release),
			"Deployment", string(info.Deployment), "Created", s.ago(info.Created))
	})
}

// goneEvery is the pause between two looks at an app that is going away.
const goneEvery = 300 * time.Millisecond

func (s *shell) deleteApp(ctx context.Context, app api.AppName, wait bool) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	err = s.step("Deleting "+string(app), func() (string, error) {
		if err := rack.DeleteApp(ctx, app); err != nil || !wait {
			return "", err
		}
		tick := time.NewTicker(goneEvery)
		defer tick.Stop()
		for {
			_, err := rack.App(ctx, app)
			if api.CodeOf(err) == api.CodeNotFound {
				return "", nil
			}
			if err != nil {
				return "", err
			}
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-tick.C:
			}
		}
	})
	if err != nil {
		return err
	}
	return s.print(map[string]any{"name": app, "deleted": true}, nothing)
}

func (s *shell) cancelDeployment(ctx context.Context, rack *client.Client, app api.AppName) error {
	var d api.Deployment
	err := s.step("Cancelling deployment of "+string(app), func() (string, error) {
		var err error
		d, err = rack.CancelDeployment(ctx, app)
		return string(d.ID), err
	})
	if err != nil {
		return err
	}
	return s.print(d, nothing)
}

// waitForApp follows what is in progress; what has ended before does not count.
func (s *shell) waitForApp(ctx context.Context, rack *client.Client, app api.AppName) error {
	builds, err := rack.Builds(ctx, app)
	if err != nil {
		return err
	}
	for _, b := range builds {
		if b.Promote && !b.Status.Ended() {
			return s.attachDeployment(ctx, rack, app, promotion{wait: true})
		}
	}
	info, err := rack.App(ctx, app)
	if err != nil {
		return err
	}
	if info.Status != "updating" && info.Status != "rolling-back" {
		return s.print(info, func() error { return s.answer(fmt.Sprintf("%s is %s", app, info.Status)) })
	}
	return s.watchDeployment(ctx, rack, app, "", false)
}

func (s *shell) lockApp(locked bool) func(context.Context, *client.Client, api.AppName) error {
	what := "Unlocking "
	if locked {
		what = "Locking "
	}
	return func(ctx context.Context, rack *client.Client, app api.AppName) error {
		err := s.step(what+string(app), func() (string, error) { return "", rack.LockApp(ctx, app, locked) })
		if err != nil || !s.json {
			return err
		}
		info, err := rack.App(ctx, app)
		if err != nil {
			return err
		}
		return s.document(info)
	}
}
