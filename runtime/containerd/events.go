package containerd

import (
	"context"
	"strings"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"

	"slipway/api"
	"slipway/runtime"
)

// eventRetry is the wait before a broken subscription is renewed.
const eventRetry = 200 * time.Millisecond

func containsFold(s, part string) bool { return strings.Contains(strings.ToLower(s), part) }

// Events follows exits and memory kills. A subscription that breaks, as when the daemon is
// restarted, is renewed, and an EventGap tells that something may have been missed.
func (e *Engine) Events(ctx context.Context) (<-chan runtime.Event, error) {
	out := make(chan runtime.Event, 64)
	envelopes, errs := e.subscribe(ctx)
	go func() {
		defer close(out)
		for {
			e.relay(ctx, envelopes, errs, out)
			select {
			case <-ctx.Done():
				return
			case <-time.After(eventRetry):
			}
			envelopes, errs = e.subscribe(ctx)
			select {
			case out <- runtime.Event{Kind: runtime.EventGap, At: time.Now()}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (e *Engine) subscribe(ctx context.Context) (<-chan *events.Envelope, <-chan error) {
	return e.client.EventService().Subscribe(ctx, `namespace==`+e.cfg.Namespace+`,topic~="^/tasks/(exit|oom)$"`)
}

// relay translates events until the subscription breaks.
func (e *Engine) relay(ctx context.Context, envelopes <-chan *events.Envelope, errs <-chan error, out chan<- runtime.Event) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-errs:
			return
		case env := <-envelopes:
			event, ok := e.translate(env)
			if !ok {
				continue
			}
			select {
			case out <- event:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (e *Engine) translate(env *events.Envelope) (runtime.Event, bool) {
	payload, err := typeurl.UnmarshalAny(env.Event)
	if err != nil {
		return runtime.Event{}, false
	}
	switch v := payload.(type) {
	case *apievents.TaskOOM:
		id := api.ProcessID(v.ContainerID)
		e.mu.Lock()
		e.ooms[id] = true
		e.mu.Unlock()
		return runtime.Event{Kind: runtime.EventOOM, ID: id, At: env.Timestamp}, true
	case *apievents.TaskExit:
		if v.ID != v.ContainerID {
			return runtime.Event{}, false // a further process
		}
		id := api.ProcessID(v.ContainerID)
		e.drain(id)
		return runtime.Event{
			Kind: runtime.EventExit, ID: id, At: v.ExitedAt.AsTime(), ExitCode: int(v.ExitStatus),
			OOM: e.wasOOM(id), PeakMemory: e.peak(id),
		}, true
	}
	return runtime.Event{}, false
}
