package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"slipway/api"
	"slipway/runtime"
)

// Image is what a registry has, and how what is made from it behaves.
type Image struct {
	Info runtime.ImageInfo
	// Program is what a container runs; nil runs until SIGTERM and exits with 0. Exec runs it
	// as well.
	Program Program
	// PullTime is how long a pull takes, PullError what it ends with; nil is success.
	PullTime  time.Duration
	PullError error
	// CreateError and StartError fail those calls.
	CreateError error
	StartError  error
}

// Engine is a runtime.Runtime in memory.
type Engine struct {
	running sync.WaitGroup
	fetches runtime.Shared[runtime.ImageInfo]

	mu         sync.Mutex
	registry   map[string]Image
	pulled     map[string]runtime.ImageInfo
	pulls      map[string]int // how often each ref was fetched
	containers map[api.ProcessID]*container
	watchers   map[*watcher]struct{}
	devices    map[string]bool
	down       error // what every call answers while the daemon is away
	pid        int
}

var _ runtime.Runtime = (*Engine)(nil)

// watcher is one subscription.
type watcher struct {
	ch  chan runtime.Event
	gap bool // something was dropped
}

// New returns an engine without images and containers.
func New() *Engine {
	return &Engine{
		registry: map[string]Image{}, pulled: map[string]runtime.ImageInfo{}, pulls: map[string]int{},
		containers: map[api.ProcessID]*container{}, watchers: map[*watcher]struct{}{}, devices: map[string]bool{}, pid: 1000,
	}
}

// AddImage puts an image into the registry, or changes how it behaves from now on.
func (e *Engine) AddImage(ref string, image Image) {
	e.mu.Lock()
	defer e.mu.Unlock()
	image.Info.Ref = ref
	e.registry[ref] = image
}

// AddDevice gives the machine a device node.
func (e *Engine) AddDevice(path string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.devices[path] = true
}

// Devices returns the device nodes that a container has.
func (e *Engine) Devices(id api.ProcessID) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.containers[id]; c != nil {
		return slices.Clone(c.spec.Devices)
	}
	return nil
}

// Pulls returns how often an image was fetched from the registry.
func (e *Engine) Pulls(ref string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pulls[ref]
}

// SetDown takes the daemon away: until it is called with nil, every call fails with err.
// Containers live on. Watchers get a gap when the daemon is back.
func (e *Engine) SetDown(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	back := e.down != nil && err == nil
	e.down = err
	if back {
		e.tellLocked(runtime.Event{Kind: runtime.EventGap, At: time.Now()})
	}
}

// Lose ends a container the way the death of an engine's helper does: its process is killed
// and its exit is forgotten.
func (e *Engine) Lose(id api.ProcessID) {
	c := e.kill(id)
	if c == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c.state, c.exitCode, c.exitedAt, c.pid = runtime.ContainerLost, runtime.ExitLost, time.Time{}, 0
}

// Close kills every process and waits for their programs.
func (e *Engine) Close() {
	e.mu.Lock()
	ids := slices.Collect(maps.Keys(e.containers))
	e.mu.Unlock()
	for _, id := range ids {
		e.kill(id)
	}
	e.running.Wait()
}

// Pull fetches an image.
func (e *Engine) Pull(ctx context.Context, ref string, progress func(done, total api.Bytes)) (runtime.ImageInfo, error) {
	info, err := e.fetches.Do(ctx, ref, func(ctx context.Context) (runtime.ImageInfo, error) {
		if info, err := e.Image(ctx, ref); api.CodeOf(err) != api.CodeNotFound {
			return info, err
		}
		return e.fetch(ctx, ref)
	})
	if err == nil && progress != nil {
		progress(info.Size, info.Size)
	}
	return info, err
}

// fetch takes an image from the registry.
func (e *Engine) fetch(ctx context.Context, ref string) (runtime.ImageInfo, error) {
	e.mu.Lock()
	image, ok := e.registry[ref]
	e.pulls[ref]++
	e.mu.Unlock()
	timer := time.NewTimer(image.PullTime)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return runtime.ImageInfo{}, context.Cause(ctx)
	case <-timer.C:
	}
	if !ok {
		return runtime.ImageInfo{}, api.Errorf(api.CodeNotFound, "image %s: not found", ref)
	}
	if image.PullError != nil {
		return runtime.ImageInfo{}, fmt.Errorf("image %s: %w", ref, image.PullError)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != nil {
		return runtime.ImageInfo{}, e.down
	}
	e.pulled[ref] = image.Info
	return image.Info, nil
}

// Image returns a pulled image.
func (e *Engine) Image(_ context.Context, ref string) (runtime.ImageInfo, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	info, ok := e.pulled[ref]
	switch {
	case e.down != nil:
		return info, e.down
	case !ok:
		return info, api.Errorf(api.CodeNotFound, "image %s: not found", ref)
	}
	return info, nil
}

// ListImages returns every pulled image.
func (e *Engine) ListImages(context.Context) ([]runtime.ImageInfo, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []runtime.ImageInfo
	for _, ref := range slices.Sorted(maps.Keys(e.pulled)) {
		out = append(out, e.pulled[ref])
	}
	return out, e.down
}

// RemoveImage forgets a pulled image.
func (e *Engine) RemoveImage(_ context.Context, ref string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down == nil {
		delete(e.pulled, ref)
	}
	return e.down
}

// Events subscribes.
func (e *Engine) Events(ctx context.Context) (<-chan runtime.Event, error) {
	w := &watcher{ch: make(chan runtime.Event, 64)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != nil {
		return nil, e.down
	}
	e.watchers[w] = struct{}{}
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watchers, w)
		close(w.ch)
	})
	return w.ch, nil
}

// tellLocked sends an event to all who listen; one who does not keep up gets a gap later.
func (e *Engine) tellLocked(event runtime.Event) {
	for w := range e.watchers {
		if e.down != nil {
			w.gap = true
			continue
		}
		if w.gap {
			select {
			case w.ch <- runtime.Event{Kind: runtime.EventGap, At: event.At}:
				w.gap = false
			default:
			}
		}
		select {
		case w.ch <- event:
		default:
			w.gap = true
		}
	}
}

// OOM kills the main process of a container as the kernel does for its memory limit.
func (e *Engine) OOM(id api.ProcessID) {
	e.mu.Lock()
	if c := e.containers[id]; c != nil && c.state == runtime.ContainerRunning {
		c.oom = true
		c.peak = max(c.peak, c.spec.Limits.Memory)
		e.tellLocked(runtime.Event{Kind: runtime.EventOOM, ID: id, At: time.Now()})
	}
	e.mu.Unlock()
	e.kill(id)
}

// kill ends the main process of a container and waits for its program.
func (e *Engine) kill(id api.ProcessID) *container {
	e.mu.Lock()
	c := e.containers[id]
	var done chan struct{}
	if c != nil && c.state == runtime.ContainerRunning {
		done = c.done
		c.proc.kill(syscall.SIGKILL)
	}
	e.mu.Unlock()
	if done != nil {
		<-done
	}
	return c
}
