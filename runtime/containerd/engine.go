package containerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"slipway/api"
	"slipway/runtime"
)

// Config is what an Engine is made of.
type Config struct {
	// Socket is the daemon's. Namespace keeps racks apart on one daemon.
	Socket    string
	Namespace string
	// Dir holds the files that are mounted into containers and the pipes of attached ones.
	Dir string
	// Sliplog is the path of the log writer.
	Sliplog string
	// Init is the path of a static init program for containers that ask for one, such as
	// tini-static; empty where the machine has none.
	Init string
	// Cgroup is the parent of all containers, for example "slipway-dev".
	Cgroup string
	// Hosts says how to reach the registry of a host name; api.RackHost is among them.
	Hosts docker.RegistryHosts
	Log   *slog.Logger
}

const snapshotter = "overlayfs"

// Engine is a runtime.Runtime.
type Engine struct {
	cfg    Config
	client *client.Client

	pulls     runtime.Shared[runtime.ImageInfo]
	removals  runtime.Shared[struct{}]
	described sync.Map // digest.Digest → description, of the images that are here

	mu       sync.Mutex
	attached map[api.ProcessID]*attachment
	ooms     map[api.ProcessID]bool // seen in events, until Remove
}

var _ runtime.Runtime = (*Engine)(nil)

// New connects to the daemon.
func New(ctx context.Context, cfg Config) (*Engine, error) {
	mounts := filepath.Join(cfg.Dir, "mounts")
	for _, dir := range []string{cfg.Dir, filepath.Join(cfg.Dir, "pipes"), filepath.Join(cfg.Dir, "files"), mounts} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("containerd: %w", err)
		}
	}
	// Images are mounted for a moment, to look at them. One that a killed agent left goes now.
	if err := mount.SetTempMountLocation(mounts); err != nil {
		return nil, fmt.Errorf("containerd: %w", err)
	}
	if _, err := mount.CleanupTempMounts(unix.MNT_DETACH); err != nil {
		return nil, fmt.Errorf("containerd: clean up %s: %w", mounts, err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c, err := client.New(cfg.Socket, client.WithDefaultNamespace(cfg.Namespace))
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "reach containerd at %s: %w", cfg.Socket, err)
	}
	e := &Engine{cfg: cfg, client: c, attached: map[api.ProcessID]*attachment{}, ooms: map[api.ProcessID]bool{}}
	if _, err := c.Version(ctx); err != nil {
		c.Close()
		return nil, api.Errorf(api.CodeUnavailable, "reach containerd at %s: %w", cfg.Socket, err)
	}
	if err := e.adoptPipes(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return e, nil
}

// Close ends the connection. Containers live on.
func (e *Engine) Close() error { return e.client.Close() }

// classify gives an error of the daemon one of our codes.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*api.Error](err); ok {
		return err
	}
	code := api.CodeInternal
	switch {
	case errdefs.IsNotFound(err):
		code = api.CodeNotFound
	case errdefs.IsAlreadyExists(err), errdefs.IsFailedPrecondition(err):
		code = api.CodeConflict
	case errdefs.IsInvalidArgument(err):
		code = api.CodeInvalid
	case errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err):
		code = api.CodeDenied
	case errdefs.IsUnavailable(err), errdefs.IsDeadlineExceeded(err):
		code = api.CodeUnavailable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return api.Errorf(code, "%w", err)
}

// ignoreNotFound drops the error of an object that is gone already.
func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
