package fleet

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/api"
	"slipway/api/client"
)

// Load is apps of equal services without work of their own.
type Load struct {
	Name           string // apps are called so, with a number behind
	Apps, Services int    // services of each app
	Copies         int    // of each service
	CPU            api.MilliCPU
	Memory         api.Bytes
	Port           bool // services listen and are routed
}

// Total is how many processes the load has.
func (l Load) Total() int { return l.Apps * l.Services * l.Copies }

func (l Load) app(i int) api.AppName { return api.AppName(fmt.Sprint(l.Name, i)) }

// manifest describes the services.
func (l Load) manifest() string {
	var b strings.Builder
	b.WriteString("services:\n")
	for i := range l.Services {
		fmt.Fprintf(&b, "  s%d:\n    image: fleet/worker:1\n    scale:\n      count: %d\n      cpu: %d\n      memory: %d\n", i, l.Copies, l.CPU, l.Memory/api.MiB)
		if l.Port {
			b.WriteString("    port: 8000\n    internal: true\n")
		}
	}
	return b.String()
}

// Prepare makes a release of each app, through a build on a node of the fleet.
func (l Load) Prepare(ctx context.Context, rack *client.Client) (releases []api.ReleaseID, err error) {
	releases = make([]api.ReleaseID, l.Apps)
	var group errgroup.Group
	group.SetLimit(4 * runtime.NumCPU())
	for i := range releases {
		group.Go(func() (err error) {
			releases[i], err = prepare(ctx, rack, l.app(i), l.manifest())
			return err
		})
	}
	return releases, group.Wait()
}

func prepare(ctx context.Context, rack *client.Client, app api.AppName, manifest string) (api.ReleaseID, error) {
	if _, err := rack.CreateApp(ctx, app); err != nil {
		return "", err
	}
	b, err := rack.CreateBuild(ctx, app, client.Build{Manifest: manifest, ManifestFile: "convox.yml"})
	for err == nil && !b.Status.Ended() {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("build %s of %s is %s: %w", b.ID, app, b.Status, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
		b, err = rack.Build(ctx, app, string(b.ID))
	}
	if err != nil {
		return "", err
	}
	if b.Release == "" {
		return "", fmt.Errorf("build %s of %s failed: %s", b.ID, app, b.Failure)
	}
	return b.Release, nil
}

// Submit promotes all releases.
func (l Load) Submit(ctx context.Context, rack *client.Client, releases []api.ReleaseID) error {
	var group errgroup.Group
	group.SetLimit(4 * runtime.NumCPU())
	for i, r := range releases {
		group.Go(func() error {
			_, err := rack.Promote(ctx, l.app(i), string(r))
			return err
		})
	}
	return group.Wait()
}

// Ended counts the deployments that have succeeded; one that failed is an error.
func (l Load) Ended(ctx context.Context, rack *client.Client) (n int64, err error) {
	for i := range l.Apps {
		d, err := rack.Deployment(ctx, l.app(i), "")
		if err != nil {
			return n, err
		}
		switch d.Status {
		case api.DeploySucceeded:
			n++
		case api.DeployFailed, api.DeployRollingBack, api.DeployCancelled:
			return n, fmt.Errorf("deployment %s of %s: %s", d.ID, d.App, d.Cause)
		}
	}
	return n, nil
}
