package registry

import (
	"context"
	"sync"
)

// gate lets many writers or one sweep in. Unlike a sync.RWMutex, a sweep that waits does not
// hold up new writers: one stalled upload must not stop all the others.
type gate struct {
	mu sync.Mutex

	writers int
	// queued counts writers that wait for a sweep to end. The next sweep lets them pass first.
	queued int
	// idle is closed when the last writer leaves, counted or queued; nil while no sweep waits for that.
	idle chan struct{}
	// open is closed when the sweep ends; nil while there is none.
	open chan struct{}
}

// enter waits for a sweep to end and counts one writer.
func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.open != nil {
		wait := g.open
		g.queued++
		g.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
		g.mu.Lock()
		g.queued--
		if err := context.Cause(ctx); err != nil {
			g.wakeSweepLocked()
			return err
		}
	}
	g.writers++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writers--
	g.wakeSweepLocked()
}

func (g *gate) wakeSweepLocked() {
	if g.writers+g.queued == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// closeAll waits for a moment without writers and keeps them out until the returned function
// is called.
func (g *gate) closeAll(ctx context.Context) (reopen func(), err error) {
	for {
		g.mu.Lock()
		wait := g.open
		if wait == nil && g.writers+g.queued == 0 {
			open := make(chan struct{})
			g.open = open
			g.mu.Unlock()
			return func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.open = nil
				close(open)
			}, nil
		}
		if wait == nil {
			if g.idle == nil {
				g.idle = make(chan struct{})
			}
			wait = g.idle
		}
		g.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
