package runtime

import (
	"context"
	"sync"
)

// Shared lets calls for the same key share one execution. The zero value is ready.
type Shared[T any] struct {
	mu    sync.Mutex
	calls map[string]*call[T]
}

// call is one execution. Its result is set when done is closed.
type call[T any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	callers int
	result  T
	err     error
}

// Do returns the result of f. A call for the key that is in progress is joined instead of
// begun again. f ends with its own context, which is cancelled when the last caller has gone:
// one that gives up takes nothing from the others. The last one to go waits for f to return.
func (s *Shared[T]) Do(ctx context.Context, key string, f func(context.Context) (T, error)) (T, error) {
	c := s.join(ctx, key, f)
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	c.callers--
	last := c.callers == 0
	if last && s.calls[key] == c {
		delete(s.calls, key)
	}
	s.mu.Unlock()
	if last {
		c.cancel()
		<-c.done
	}
	var none T
	return none, context.Cause(ctx)
}

func (s *Shared[T]) join(ctx context.Context, key string, f func(context.Context) (T, error)) *call[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[key]; c != nil {
		c.callers++
		return c
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &call[T]{done: make(chan struct{}), cancel: cancel, callers: 1}
	if s.calls == nil {
		s.calls = map[string]*call[T]{}
	}
	s.calls[key] = c
	go func() {
		defer cancel()
		c.result, c.err = f(own)
		s.mu.Lock()
		if s.calls[key] == c {
			delete(s.calls, key)
		}
		s.mu.Unlock()
		close(c.done)
	}()
	return c
}
