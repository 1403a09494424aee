package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) releasesCommand() *cobra.Command {
	limit := 0
	list := func(ctx context.Context, _ []string) error { return s.listReleases(ctx, limit) }
	c := s.verb(verb{
		use: "releases", short: "List, compare and go back to releases", run: list,
		long:    "List the releases of an app, newest first.",
		example: "  slipway releases\n  slipway releases rollback v3\n  slipway releases diff",
	})
	c.PersistentFlags().IntVarP(&limit, "limit", "l", 20, "how many to list; 0 lists all")
	c.AddCommand(
		s.verb(verb{use: "list", short: "List releases", long: "List the releases of an app, newest first.", example: "  slipway releases list", run: list}),
		s.releaseInfoVerb(),
		s.verb(verb{
			use: "manifest [RELEASE]", names: releaseNames, short: "Print the manifest of a release", example: "  slipway releases manifest v3",
			long: "Print the manifest of a release as it was in the source; without one, of the newest.", args: between(0, 1),
			run: func(ctx context.Context, args []string) error { return s.releaseManifest(ctx, first(args)) },
		}),
		s.promoteVerb(),
		s.rollbackVerb(),
		s.createFromVerb(),
		s.diffVerb(),
	)
	return c
}

func (s *shell) listReleases(ctx context.Context, limit int) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	releases, err := rack.Releases(ctx, app)
	if err != nil {
		return err
	}
	releases = newest(releases, limit)
	return s.print(releases, func() error {
		var rows [][]string
		for _, r := range releases {
			rows = append(rows, []string{
				string(r.ID), fmt.Sprintf("v%d", r.Number), r.Status, string(r.Build), s.ago(r.Created), r.Author, r.Description,
			})
		}
		return s.table([]string{"ID", "VERSION", "STATUS", "BUILD", "CREATED", "AUTHOR", "DESCRIPTION"}, rows)
	})
}

func (s *shell) releaseInfoVerb() *cobra.Command {
	reveal := false
	c := s.verb(verb{
		use: "info [RELEASE]", names: releaseNames, short: "Describe a release", args: between(0, 1),
		example: "  slipway releases info v3\n  slipway releases info --reveal",
		long:    "Describe a release by its ID or number; without one, the newest.",
		run:     func(ctx context.Context, args []string) error { return s.releaseInfo(ctx, first(args), reveal) },
	})
	c.Flags().BoolVar(&reveal, "reveal", false, "show the values of the environment")
	return c
}

// revealed is a release with the values of its environment.
type revealed struct {
	api.ReleaseInfo
	Values map[string]string `json:"values"`
}

func (s *shell) releaseInfo(ctx context.Context, id string, reveal bool) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	r, err := rack.Release(ctx, app, id)
	if err != nil {
		return err
	}
	doc, env := any(r), strings.Join(r.EnvNames, " ")
	if reveal {
		values, _, err := rack.Env(ctx, app, string(r.ID))
		if err != nil {
			return err
		}
		doc, env = revealed{r, values}, envText(values)
	}
	return s.print(doc, func() error {
		return s.block("Id", string(r.ID), "Version", fmt.Sprintf("v%d", r.Number), "Status", r.Status, "Build", string(r.Build),
			"Created", s.ago(r.Created), "Author", r.Author, "Description", r.Description, "Env", env)
	})
}

func (s *shell) releaseManifest(ctx context.Context, id string) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	r, err := rack.Release(ctx, app, id)
	if err != nil {
		return err
	}
	doc := map[string]any{"id": r.ID, "manifest": r.Manifest}
	return s.print(doc, func() error { return s.answer(strings.TrimSuffix(clean(r.Manifest), "\n")) })
}

func (s *shell) rollbackVerb() *cobra.Command {
	p := promotion{}
	c := s.verb(verb{
		use: "rollback RELEASE", names: releaseNames, short: "Go back to an old release",
		long: "Make a new release with the build and the environment of an old one, and deploy it.\n" +
			"The releases in between stay; nothing is lost.",
		example: "  slipway releases rollback v3", args: between(1, 1),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			var d api.Deployment
			err = s.step("Rolling back to "+args[0], func() (string, error) {
				d, err = rack.Rollback(ctx, app, args[0])
				return string(d.Release), err
			})
			if err != nil {
				return err
			}
			return s.afterPromotion(ctx, rack, app, d, p)
		},
	})
	c.Flags().BoolVarP(&p.wait, "wait", "w", true, "wait until the deployment has ended")
	return c
}

func (s *shell) diffVerb() *cobra.Command {
	reveal := false
	c := s.verb(verb{
		use: "diff [FROM] [TO]", names: releaseNames, short: "Show what differs between two releases",
		long: "Show what differs between two releases. Without arguments: what promoting the newest would change.\n" +
			"With one: from that release to the newest.",
		example: "  slipway releases diff\n  slipway releases diff v3 v5 --reveal", args: between(0, 2),
		run: func(ctx context.Context, args []string) error {
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			to := ""
			if len(args) > 1 {
				to = args[1]
			}
			d, err := rack.DiffReleases(ctx, app, first(args), to, reveal)
			if err != nil {
				return err
			}
			return s.print(d, func() error { return s.printDiff(d) })
		},
	})
	c.Flags().BoolVar(&reveal, "reveal", false, "show the values of the environment")
	return c
}

// mark is the sign of a change.
func mark(change string) string {
	switch change {
	case "add":
		return "+"
	case "remove":
		return "-"
	}
	return "~"
}

func (s *shell) printDiff(d api.ReleaseDiff) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s -> %s\n", orElse(string(d.From), "nothing"), d.To)
	if d.Builds[0] != d.Builds[1] {
		fmt.Fprintf(&b, "build %s -> %s\n", orElse(string(d.Builds[0]), "none"), d.Builds[1])
	}
	for _, e := range d.Env {
		fmt.Fprintf(&b, "%s env %s%s\n", mark(e.Change), e.Name, values(e))
	}
	for _, service := range d.Services {
		fmt.Fprintf(&b, "%s service %s\n", mark(service.Change), service.Service)
		for _, f := range service.Fields {
			fmt.Fprintf(&b, "    %s %s%s\n", mark(f.Change), f.Name, values(f))
		}
	}
	if d.Manifest != "" {
		fmt.Fprintf(&b, "manifest\n%s", d.Manifest)
	}
	return s.answer(strings.TrimSuffix(clean(b.String()), "\n"))
}

// values shows both sides of a change, if they are known.
func values(d api.ValueDiff) string {
	switch {
	case d.From == "" && d.To == "":
		return ""
	case d.Change == "add":
		return ": " + d.To
	case d.Change == "remove":
		return ": " + d.From
	}
	return fmt.Sprintf(": %s -> %s", d.From, d.To)
}
