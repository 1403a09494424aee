package registry

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// The limits of a Replicator.
const (
	replicasMax = 2                      // copies at once
	passGap     = 100 * time.Millisecond // between two looks at what is missing
	rescan      = time.Minute            // a look without any change: a disk may lose things
	retryMin    = time.Second            // before the second try, doubled before each further one
	retryMax    = time.Minute
)

// Replicator fetches what is missing, a little at once, and tries again what failed.
type Replicator[T comparable] struct {
	// Missing names what is to be fetched, the most urgent first. It is called by one goroutine.
	Missing func() []T
	// Fetch fetches one. It is called from several goroutines, and ends with its ctx.
	Fetch  func(context.Context, T) error
	Logger *slog.Logger
	// Left is told how much is missing, again and again; nil tells nobody.
	Left func(int)

	hinted <-chan struct{} // as changed
}

// attempt is what is known of something that could not be fetched.
type attempt struct {
	tries int
	after time.Time // when it is tried again
}

// Run fetches until ctx ends and returns nil then. It looks at what is missing when changed
// delivers, and once a minute.
func (p Replicator[T]) Run(ctx context.Context, changed <-chan struct{}) error {
	type result struct {
		what T
		err  error
	}
	var (
		missing []T
		looked  time.Time
		dirty   = true
		busy    = map[T]bool{}
		failed  = map[T]attempt{}
		results = make(chan result)
		copies  sync.WaitGroup
		timer   = time.NewTimer(0)
	)
	ctx, cancel := context.WithCancel(ctx)
	defer copies.Wait()
	defer cancel()
	defer timer.Stop()
	for {
		now := time.Now()
		if dirty && now.Sub(looked) >= passGap || now.Sub(looked) >= rescan {
			missing, dirty, looked = p.Missing(), false, now
			failed = only(failed, missing)
		}
		if p.Left != nil {
			p.Left(len(missing))
		}
		start, wake := next(missing, busy, failed, now)
		for _, what := range start {
			busy[what] = true
			copies.Go(func() {
				err := p.Fetch(ctx, what)
				select {
				case results <- result{what, err}:
				case <-ctx.Done():
				}
			})
		}
		timer.Reset(time.Until(wakeUp(looked, dirty, wake)))

		select {
		case <-ctx.Done():
			return nil
		case _, open := <-changed:
			dirty = true
			if !open {
				changed = nil
			}
		case <-p.hinted:
			dirty = true
		case <-timer.C:
		case res := <-results:
			delete(busy, res.what)
			if res.err == nil {
				delete(failed, res.what)
				missing = without(missing, res.what)
				continue
			}
			a := again(failed[res.what].tries, time.Now())
			if a.tries == 1 {
				p.Logger.Warn("content not replicated", "what", res.what, "err", res.err)
			}
			failed[res.what] = a
		}
	}
}

// next returns what to begin now, and when something that failed is to be tried again; zero for
// nothing.
func next[T comparable](missing []T, busy map[T]bool, failed map[T]attempt, now time.Time) (start []T, wake time.Time) {
	for _, what := range missing {
		a := failed[what]
		switch {
		case busy[what]:
		case a.after.After(now):
			if wake.IsZero() || a.after.Before(wake) {
				wake = a.after
			}
		case len(busy)+len(start) < replicasMax:
			start = append(start, what)
		}
	}
	return start, wake
}

// again says when to try again after one more failure.
func again(tries int, now time.Time) attempt {
	wait := min(retryMax, retryMin<<min(tries, 10))
	return attempt{tries + 1, now.Add(wait)}
}

// wakeUp is when Run has to look again though nothing happens.
func wakeUp(looked time.Time, dirty bool, retry time.Time) time.Time {
	at := looked.Add(rescan)
	if dirty {
		at = looked.Add(passGap)
	}
	if !retry.IsZero() && retry.Before(at) {
		return retry
	}
	return at
}

// only keeps the attempts at what is still missing.
func only[T comparable](failed map[T]attempt, missing []T) map[T]attempt {
	out := map[T]attempt{}
	for _, what := range missing {
		if a, ok := failed[what]; ok {
			out[what] = a
		}
	}
	return out
}

func without[T comparable](list []T, what T) (out []T) {
	for _, x := range list {
		if x != what {
			out = append(out, x)
		}
	}
	return out
}
