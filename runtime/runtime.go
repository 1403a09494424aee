package runtime

import (
	"context"
	"io"
	"syscall"
	"time"

	"slipway/api"
)

// Runtime is a container engine.
type Runtime interface {
	Images
	Containers
	Lister
	Watcher
	Attacher
	Meter
}

// Images fetches and keeps images. A ref is "host/repository@sha256:…" and always carries a
// digest; the host api.RackHost stands for the rack's own registry.
type Images interface {
	// Pull fetches and unpacks an image; it returns at once if it is there. Calls for the same
	// ref share one fetch. progress, if not nil, is called from one goroutine with the
	// compressed bytes that are here and the bytes of the whole; total is 0 while unknown.
	Pull(ctx context.Context, ref string, progress func(done, total api.Bytes)) (ImageInfo, error)
	// Image returns an unpacked image, or CodeNotFound.
	Image(ctx context.Context, ref string) (ImageInfo, error)
	// ListImages returns every image, sorted by ref.
	ListImages(ctx context.Context) ([]ImageInfo, error)
	// RemoveImage forgets an image; containers made from it are not touched. An image that is
	// not there is no error.
	RemoveImage(ctx context.Context, ref string) error
}

// Containers makes and ends containers.
type Containers interface {
	// Create makes a container that is ready to start. It leaves nothing behind on an error.
	Create(ctx context.Context, spec Spec) error
	// Start runs the main process of a created container and returns its pid on the host.
	Start(ctx context.Context, id api.ProcessID) (pid int, err error)
	// Signal sends a signal to the main process, SIGKILL to every process of the container.
	// CodeNotFound if there is no container or no live process.
	Signal(ctx context.Context, id api.ProcessID, sig syscall.Signal) error
	// Remove kills what runs and removes the container with all it held, but not its log. It
	// is idempotent: a container that is not there is no error.
	Remove(ctx context.Context, id api.ProcessID) error
}

// Lister says what there is.
type Lister interface {
	// Inspect returns one container, as List would; CodeNotFound if it is not there.
	Inspect(ctx context.Context, id api.ProcessID) (Container, error)
	// List returns every container of this rack on this node, sorted by ID.
	List(ctx context.Context) ([]Container, error)
}

// Watcher tells what happens.
type Watcher interface {
	// Events returns a channel that is subscribed when the call returns and closed when ctx
	// ends. A receiver must keep up; one that does not, or an engine that was away, causes an
	// EventGap, after which List has the truth.
	Events(ctx context.Context) (<-chan Event, error)
}

// Attacher connects streams to processes.
type Attacher interface {
	// Exec runs a further process in a running container until it ends, and returns its exit
	// code when its output was delivered; children that it leaves are not waited for. When ctx
	// ends the process is killed and ctx's cause returned. CodeConflict if the container does
	// not run.
	Exec(ctx context.Context, id api.ProcessID, spec ExecSpec) (exitCode int, err error)
	// Attach connects to the main process of a container that was created with Spec.Attach. It
	// may be called before Start, and returns nil when the process has ended and all of its
	// output was delivered, or ctx's cause when ctx ends, which leaves the process alone: a
	// later Attach goes on. One attachment at a time: a second gets CodeConflict. CodeNotFound
	// if the process has ended: what it wrote is in the log.
	Attach(ctx context.Context, id api.ProcessID, streams Streams) error
}

// Meter measures.
type Meter interface {
	// Stats returns what a container uses. CodeNotFound once its main process is gone from the
	// engine.
	Stats(ctx context.Context, id api.ProcessID) (Stats, error)
}

// ImageInfo describes an unpacked image.
type ImageInfo struct {
	Ref        string
	Entrypoint []string
	Cmd        []string
	Env        []string // NAME=value
	User       string   // as written in the image
	WorkDir    string
	// Volumes are paths that the image declares; they get no storage of their own.
	Volumes []string
	// StopSignal is the signal the image asks for, such as "SIGINT"; empty means SIGTERM.
	StopSignal string
	Size       api.Bytes // compressed
}

// Streams are the ends that a caller gives to a process.
type Streams struct {
	// Stdin nil is an empty input. A reader that blocks for ever does not keep a call from
	// returning; it is read by at most one goroutine that ends with its next Read.
	Stdin io.Reader
	// Stdout and Stderr nil discard. Stderr is unused with a terminal.
	Stdout io.Writer
	Stderr io.Writer
	// Resize carries new sizes of the terminal; nil never resizes.
	Resize <-chan Size
}

// Size is the size of a terminal in characters.
type Size struct{ Rows, Cols uint16 }

// ExecSpec describes a further process.
type ExecSpec struct {
	// Args is run as it is, without the image's entrypoint.
	Args []string
	// Env is added to the container's environment, NAME=value.
	Env []string
	// TTY gives the process a terminal of the given size.
	TTY  bool
	Size Size
	// User and WorkDir override those of the container; empty keeps them.
	User    string
	WorkDir string
	Streams Streams
}

// Stats is what a container uses, main process and all others in it.
type Stats struct {
	At time.Time
	// CPU is processor time since the start; Throttled the time that the limit took away.
	CPU       time.Duration
	Throttled time.Duration
	// Memory is the working set: usage without the page cache that can be dropped.
	Memory api.Bytes
	// PeakMemory is the highest usage since the start, page cache included.
	PeakMemory  api.Bytes
	MemoryLimit api.Bytes // 0 is no limit
	Processes   int       // processes and threads
	// OOMKills counts processes that the kernel killed for the memory limit.
	OOMKills int
}
