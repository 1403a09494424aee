package containerd

import (
	"cmp"
	"context"
	"fmt"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"

	"slipway/api"
	"slipway/runtime"
)

const (
	// eventRetry is the wait before a broken subscription is renewed.
	eventRetry = 200 * time.Millisecond
	// topicHere is of an event that the engine sends to itself, hereAgain the wait for it.
	topicHere = "/slipway/here"
	hereAgain = 50 * time.Millisecond
)

// Events follows exits and memory kills. A subscription that breaks, as when the daemon is
// restarted, is renewed, and an EventGap tells that something may have been missed.
func (e *Engine) Events(ctx context.Context) (<-chan runtime.Event, error) {
	sub, err := e.subscribe(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan runtime.Event, 64)
	go func() {
		defer close(out)
		for {
			e.relay(ctx, sub, out)
			if sub, err = e.resubscribe(ctx); err != nil {
				return
			}
			select {
			case out <- runtime.Event{Kind: runtime.EventGap, At: time.Now()}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// subscription is a stream of events that the daemon has begun to send.
type subscription struct {
	envelopes <-chan *events.Envelope
	errs      <-chan error
	early     []*events.Envelope // came while it was not yet sure
	cancel    context.CancelFunc
}

// subscribe returns when the daemon is known to send: it has returned an event of our own. The
// call alone says nothing, it may reach the daemon after the next ones.
func (e *Engine) subscribe(ctx context.Context) (_ *subscription, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	sub := &subscription{cancel: cancel}
	sub.envelopes, sub.errs = e.client.EventService().Subscribe(ctx, `namespace==`+e.cfg.Namespace+`,topic~="^(/tasks/(exit|oom)|`+topicHere+`)$"`)
	here := fmt.Sprintf("here-%d", time.Now().UnixNano())
	again := time.NewTicker(hereAgain)
	defer again.Stop()
	for {
		if err := e.client.EventService().Publish(ctx, topicHere, &apievents.ContainerUpdate{ID: here}); err != nil {
			return nil, fmt.Errorf("follow events: %w", classify(err))
		}
		if sure, err := sub.await(ctx, here, again.C); sure || err != nil {
			return sub, err
		}
	}
}

// await waits for our own event until again says to send it once more.
func (s *subscription) await(ctx context.Context, here string, again <-chan time.Time) (sure bool, err error) {
	for {
		select {
		case env := <-s.envelopes:
			if env.Topic != topicHere {
				s.early = append(s.early, env)
				continue
			}
			v, err := typeurl.UnmarshalAny(env.Event)
			if own, ok := v.(*apievents.ContainerUpdate); err == nil && ok && own.ID == here {
				return true, nil
			}
		case err := <-s.errs:
			return false, fmt.Errorf("follow events: %w", cmp.Or(classify(err), context.Cause(ctx), errBroken))
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-again:
			return false, nil
		}
	}
}

// errBroken is a stream that ended without saying why.
var errBroken error = api.Errorf(api.CodeUnavailable, "containerd ended the stream of events")

// resubscribe tries until it succeeds or ctx ends.
func (e *Engine) resubscribe(ctx context.Context) (*subscription, error) {
	tick := time.NewTicker(eventRetry)
	defer tick.Stop()
	for {
		sub, err := e.subscribe(ctx)
		if err == nil {
			return sub, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// relay translates events until the subscription breaks.
func (e *Engine) relay(ctx context.Context, sub *subscription, out chan<- runtime.Event) {
	defer sub.cancel()
	for {
		env, ok := sub.next(ctx)
		if !ok {
			return
		}
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

// next returns the next event; not ok when there are no more.
func (s *subscription) next(ctx context.Context) (*events.Envelope, bool) {
	if len(s.early) > 0 {
		env := s.early[0]
		s.early = s.early[1:]
		return env, true
	}
	select {
	case env := <-s.envelopes:
		return env, true
	case <-s.errs:
	case <-ctx.Done():
	}
	return nil, false
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
			OOM: e.wasOOM(id, int(v.ExitStatus)), PeakMemory: e.group(id).peak(),
		}, true
	}
	return runtime.Event{}, false
}
