package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"slipway/api"
)

// Builder turns sources into images. Its Run must be running for Build to proceed.
type Builder struct {
	config   Config
	acquires chan acquire
	releases chan *lease
	awake    atomic.Bool
	// rack reaches the rack's registry, over connections that last from one build to the next.
	rack *http.Client
}

// Awake reports whether the engine runs, and so takes memory.
func (b *Builder) Awake() bool { return b.awake.Load() }

// New returns a builder, and clears its root of sources that an earlier one left. Builds wait
// until Run runs.
func New(config Config) (*Builder, error) {
	if err := config.setDefaults(); err != nil {
		return nil, err
	}
	if err := config.makeDirs(); err != nil {
		return nil, err
	}
	rack, err := config.Registry.client(nil)
	if err != nil {
		return nil, err
	}
	return &Builder{config: config, acquires: make(chan acquire), releases: make(chan *lease), rack: rack}, nil
}

// Job is one build.
type Job struct {
	App   api.AppName
	Build api.BuildAssignment
	// Fetch opens a source archive by its digest. It is called at most once.
	Fetch func(ctx context.Context, digest string) (io.ReadCloser, error)
	// Log takes a line of progress; stream is "stdout" or "stderr". Calls do not overlap.
	Log func(stream, text string)
}

// Build builds or mirrors the image of every service of the job and returns where they are in
// the rack's registry, in the app's repository. Equal build stanzas are built once. Any number
// of builds may run at once; what they have in common is done once.
//
// An error the user can mend has code invalid and names the step, its line in the Dockerfile
// and its last lines; a full disk, or a build that takes longer than Config.Time, has code
// exhausted; a registry that cannot be reached, or an engine that died, code unavailable. When
// ctx ends, running steps are killed. Afterwards the cache gives way as far as the disk needs.
func (b *Builder) Build(ctx context.Context, job Job) (map[api.ServiceName]api.Image, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.config.Time,
		api.Errorf(api.CodeExhausted, "it takes longer than %s, the limit", b.config.Time))
	defer cancel()
	images, err := b.build(ctx, job)
	b.makeRoom(ctx)
	return images, err
}

func (b *Builder) build(ctx context.Context, job Job) (map[api.ServiceName]api.Image, error) {
	log := job.Log
	var mu sync.Mutex
	job.Log = func(stream, text string) {
		mu.Lock()
		defer mu.Unlock()
		if log != nil {
			log(stream, text)
		}
	}

	images := map[api.ServiceName]api.Image{}
	plans, err := b.prepare(ctx, &job)
	if plans.source != "" {
		defer os.RemoveAll(plans.source)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range plans.builds {
		image, err := b.solve(ctx, &job, p)
		if err != nil {
			return nil, err
		}
		for _, name := range p.services {
			images[name] = image
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(plans.mirrors)) {
		image, err := b.mirror(ctx, &job, ref)
		if err != nil {
			return nil, err
		}
		for _, name := range plans.mirrors[ref] {
			images[name] = image
		}
	}
	return images, nil
}

// plans is what a job comes down to.
type plans struct {
	source  string // the unpacked archive; empty when nothing is built
	builds  []*plan
	mirrors map[string][]api.ServiceName // by image reference
}

// prepare unpacks the source and sorts the services by what has to be done for them. The
// caller removes plans.source, also after an error.
func (b *Builder) prepare(ctx context.Context, job *Job) (plans, error) {
	p := plans{mirrors: map[string][]api.ServiceName{}}
	known := map[string]*plan{}
	for i := range job.Build.Services {
		service := &job.Build.Services[i]
		if service.Build == nil {
			p.mirrors[service.Image] = append(p.mirrors[service.Image], service.Name)
			continue
		}
		stanza := *service.Build
		stanza.Path = filepath.Clean(stanza.Path) // "", "." and "./" are the same
		key, err := json.Marshal(stanza)
		if err != nil {
			return p, err
		}
		if same := known[string(key)]; same != nil {
			same.services = append(same.services, service.Name)
			continue
		}
		if p.source == "" {
			if p.source, err = os.MkdirTemp(b.config.sourceDir(), string(job.Build.ID)+"-"); err != nil {
				return p, fmt.Errorf("builder: %w", err)
			}
			if err := b.fetch(ctx, job, p.source); err != nil {
				return p, err
			}
		}
		found, err := planBuild(p.source, service, job)
		if err != nil {
			return p, err
		}
		found.services = []api.ServiceName{service.Name}
		known[string(key)] = found
		p.builds = append(p.builds, found)
	}
	return p, nil
}

func (b *Builder) fetch(ctx context.Context, job *Job, dir string) error {
	if job.Build.Source == "" {
		return api.Errorf(api.CodeInvalid, "build %s of app %s: a service is to be built, but no source was uploaded", job.Build.ID, job.App)
	}
	r, err := job.Fetch(ctx, job.Build.Source)
	if err != nil {
		return fmt.Errorf("fetch source %s: %w", job.Build.Source, err)
	}
	defer r.Close()
	return Unpack(ctx, r, dir, b.config.Source)
}
