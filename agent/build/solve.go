package build

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/tonistiigi/fsutil"

	"slipway/api"
)

// zstdLevel is a good bargain: a tenth of the time of gzip for the same size (measured with a
// 134 MB image).
const zstdLevel = "3"

// solve builds one image and pushes it.
func (b *Builder) solve(ctx context.Context, job *Job, p *plan) (api.Image, error) {
	what := "build of service " + joinNames(p.services)
	dir, err := fsutil.NewFS(p.context)
	if err != nil {
		return api.Image{}, fmt.Errorf("%s: %w", what, err)
	}
	lease, release, err := b.engine(ctx)
	if err != nil {
		return api.Image{}, fmt.Errorf("%s: %w", what, err)
	}
	defer release()

	job.Log("stdout", "building "+joinNames(p.services))
	status := make(chan *client.SolveStatus)
	shown := newProgress(job.Log)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		shown.follow(status)
	}()
	response, err := lease.client.Solve(ctx, nil, solveOptions(job, p, dir), status)
	<-followed // Solve closes status
	if err != nil {
		lease.broken = ctx.Err() == nil && engineLost(err)
		return api.Image{}, failure(ctx, what, err, shown)
	}
	digest := response.ExporterResponse["containerimage.digest"]
	if digest == "" {
		return api.Image{}, api.Errorf(api.CodeInternal, "%s: the engine returned no digest", what)
	}
	image := api.Image{Repository: string(job.App), Digest: digest}
	if image.Size, err = b.size(ctx, image); err != nil {
		return api.Image{}, fmt.Errorf("%s: %w", what, err)
	}
	job.Log("stdout", fmt.Sprintf("pushed %s (%s)", image.Ref(), image.Size))
	return image, nil
}

func solveOptions(job *Job, p *plan, dir fsutil.FS) client.SolveOpt {
	attrs := map[string]string{
		"cmdline":  "builtin", // a "# syntax=" line names a stranger's program: never run it
		"filename": p.dockerfile,
	}
	if p.target != "" {
		attrs["target"] = p.target
	}
	if job.Build.Options.NoCache {
		attrs["no-cache"] = ""
	}
	for name, value := range p.args {
		attrs["build-arg:"+name] = value
	}
	// The tag is for people; everything of ours uses the digest.
	name := fmt.Sprintf("%s/%s:%s.%s", api.RackHost, job.App, p.services[0], job.Build.ID)
	return client.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: attrs,
		LocalMounts:   map[string]fsutil.FS{"context": dir, "dockerfile": dir},
		// A stable key lets the engine ask only for files that changed since the last build.
		SharedKey:    string(job.App) + "/" + string(p.services[0]),
		SourcePolicy: sourcePolicy(job.App),
		Session:      []session.Attachable{&logins{all: job.Build.Registries}},
		Exports: []client.ExportEntry{{Type: client.ExporterImage, Attrs: map[string]string{
			"name": name, "push": "true", "oci-mediatypes": "true",
			"compression": "zstd", "compression-level": zstdLevel,
		}}},
	}
}

// sourcePolicy keeps a build from reading the images of other apps with the builder's rights.
// The last rule that matches wins.
func sourcePolicy(app api.AppName) *spb.Policy {
	rack := "^docker-image://" + regexp.QuoteMeta(api.RackHost) + "/"
	rule := func(action spb.PolicyAction, identifier string) *spb.Rule {
		return &spb.Rule{Action: action, Selector: &spb.Selector{Identifier: identifier, MatchType: spb.MatchType_REGEX}}
	}
	return &spb.Policy{Rules: []*spb.Rule{
		rule(spb.PolicyAction_DENY, rack),
		rule(spb.PolicyAction_ALLOW, rack+"[^/@]+/"), // library/ and the like: no app's name holds a slash
		rule(spb.PolicyAction_ALLOW, rack+regexp.QuoteMeta(string(app))+"[:@]"),
	}}
}

func joinNames(names []api.ServiceName) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(n))
	}
	return b.String()
}
