package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"slipway/api"
)

// Defaults of Config.
const (
	// GraceDefault is longer than a build may take: before its end no record names its images.
	GraceDefault = 2 * time.Hour
	// FreeMinDefault is kept free for the Raft log, which shares the disk.
	FreeMinDefault = 256 * api.MiB
	// UploadIdleDefault is longer than any network takes to deliver the next bytes.
	UploadIdleDefault = time.Minute
)

// uploadAgeMax is when an unfinished upload is given up. Nobody resumes one: a push that failed
// begins anew.
const uploadAgeMax = 6 * time.Hour

// The actions that Config.Authorize is asked about.
const (
	ActionPull    = "pull"
	ActionPush    = "push"
	ActionDelete  = "delete"
	ActionCatalog = "catalog" // list all repositories; the repository is empty
	ActionLogin   = "login"   // only checks the credentials; the repository is empty
)

// Config is what a Registry needs.
type Config struct {
	// Root is the directory of all images. Only one process may use it.
	Root string
	// HTTPSecret signs the state of uploads; all servers behind one address share it.
	HTTPSecret string
	// Authorize reports why user may not do action in repo, or nil. It is called for every
	// request, from many goroutines. An anonymous request has an empty user and password.
	Authorize func(user, password, repo, action string) error
	Logger    *slog.Logger
	// Grace keeps what was touched so recently from GC. Zero means GraceDefault, a negative
	// value none.
	Grace time.Duration
	// FreeMin refuses writes while the disk has less room. Zero means FreeMinDefault.
	FreeMin api.Bytes
	// UploadIdle ends an upload that sends nothing for so long: collections wait for uploads.
	// Zero means UploadIdleDefault.
	UploadIdle time.Duration

	// ID names this server in answers about who holds what.
	ID string
	// Peers returns the other servers of the rack as they are now; nil means that there are none.
	Peers func() []Peer
	// Client reaches the PeerHandler of the peers, by mTLS. It has no overall timeout.
	Client *http.Client
	// PeerIdle gives a peer up that sends nothing for so long. Zero means PeerIdleDefault.
	PeerIdle time.Duration
	// Shared reports whether a repository belongs to no app. The state names the images of apps;
	// those of shared repositories the servers copy from one another, with their tags. Nil
	// means that none is shared.
	Shared func(repo string) bool
}

func (c *Config) setDefaults() error {
	switch {
	case c.Root == "":
		return api.Errorf(api.CodeInvalid, "registry: no root directory is configured")
	case c.HTTPSecret == "":
		return api.Errorf(api.CodeInvalid, "registry: no HTTP secret is configured")
	case c.Authorize == nil:
		return api.Errorf(api.CodeInvalid, "registry: nothing decides who is authorized")
	}
	if c.Peers != nil && c.Client == nil {
		return api.Errorf(api.CodeInvalid, "registry: there are peers, but no client to reach them")
	}
	if c.Shared == nil {
		c.Shared = func(string) bool { return false }
	}
	if c.PeerIdle == 0 {
		c.PeerIdle = PeerIdleDefault
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Grace == 0 {
		c.Grace = GraceDefault
	}
	if c.FreeMin == 0 {
		c.FreeMin = FreeMinDefault
	}
	if c.UploadIdle == 0 {
		c.UploadIdle = UploadIdleDefault
	}
	return nil
}

// Registry serves and stores images. Its methods may be called at once.
type Registry struct {
	config Config
	// app is made for the first request: it keeps a goroutine that never ends, which a server
	// that is asked for no image does without.
	app    func() (*handlers.App, error)
	driver driver.StorageDriver
	// store is the same data without HTTP and rights.
	store distribution.Namespace
	gate  gate
	// names is held while GC removes manifests, and shared by those who ask whether one exists.
	names sync.RWMutex

	peers *Peers
	hints hints
	// removals counts what may have removed images.
	removals atomic.Int64

	// pushed and nudged each hold one: a shared image came from a client, or a peer says so of one.
	pushed, nudged chan struct{}

	// tags is held while a tag is written, so that its age belongs to it.
	tags sync.Mutex

	flightsMu sync.Mutex

	flights map[string]*flight // by repository@hex

	pinsMu sync.Mutex

	pins map[digest.Digest]int // what is being replicated, which GC leaves alone
}

// New returns a registry over config.Root, made if need be.
func New(config Config) (*Registry, error) {
	if err := config.setDefaults(); err != nil {
		return nil, err
	}
	if err := registerAuth(); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(config.Root, fetchDir)); err != nil {
		return nil, fmt.Errorf("registry: remove half fetched blobs: %w", err)
	}
	for _, dir := range append([]string{fetchDir}, layoutDirs...) {
		if err := os.MkdirAll(filepath.Join(config.Root, dir), 0o700); err != nil {
			return nil, fmt.Errorf("registry: %w", err)
		}
	}
	ctx := context.Background()
	drv := filesystem.New(filesystem.DriverParameters{RootDirectory: config.Root, MaxThreads: driverThreads})
	store, err := storage.NewRegistry(ctx, drv, storage.EnableDelete)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w", config.Root, err)
	}
	app := sync.OnceValues(func() (*handlers.App, error) { return newApp(ctx, config) })
	return &Registry{
		config: config, app: app, driver: drv, store: store, peers: newPeers(&config), hints: hints{added: make(chan struct{}, 1)},
		pushed: make(chan struct{}, 1), nudged: make(chan struct{}, 1), flights: map[string]*flight{}, pins: map[digest.Digest]int{},
	}, nil
}

// Peers asks the other servers, for whoever keeps content beside the registry.
func (r *Registry) Peers() *Peers { return r.peers }

// driverThreads bounds the files that are open at once.
const driverThreads = 100

// newApp calls handlers.NewApp, which panics on what it does not like.
func newApp(ctx context.Context, config Config) (app *handlers.App, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()

	cfg := &configuration.Configuration{}
	cfg.Storage = configuration.Storage{
		"filesystem":  {"rootdirectory": config.Root, "maxthreads": driverThreads},
		"delete":      {"enabled": true},
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}}, // GC does it
	}
	cfg.Auth = configuration.Auth{authName: {authOption: config.Authorize}}
	cfg.HTTP.Secret = config.HTTPSecret
	cfg.HTTP.RelativeURLs = true
	cfg.Catalog.MaxEntries = 1000
	return handlers.NewApp(ctx, cfg), nil
}

// ResolveTag returns the digest that a tag of a repository names now.
func (r *Registry) ResolveTag(ctx context.Context, repo, tag string) (string, error) {
	repository, err := r.repository(ctx, repo)
	if err != nil {
		return "", err
	}
	desc, err := repository.Tags(ctx).Get(ctx, tag)
	if _, ok := errors.AsType[distribution.ErrTagUnknown](err); ok || isNotFound(err) {
		return "", api.Errorf(api.CodeNotFound, "image %s:%s is not in the rack's registry: %w", repo, tag, err)
	}
	if err != nil {
		return "", fmt.Errorf("resolve %s:%s: %w", repo, tag, err)
	}
	return desc.Digest.String(), nil
}

func (r *Registry) repository(ctx context.Context, repo string) (distribution.Repository, error) {
	name, err := reference.WithName(repo)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "repository name %.80q: %w", repo, err)
	}
	repository, err := r.store.Repository(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	return repository, nil
}

// isNotFound reports whether a path of the store does not exist.
func isNotFound(err error) bool {
	if _, ok := errors.AsType[driver.PathNotFoundError](err); ok {
		return true
	}
	if _, ok := errors.AsType[distribution.ErrManifestUnknownRevision](err); ok {
		return true
	}
	_, ok := errors.AsType[distribution.ErrRepositoryUnknown](err)
	return ok
}
