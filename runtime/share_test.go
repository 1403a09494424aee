package runtime

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestCallersShareOneExecution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Shared[int]
		runs := 0
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				got, err := s.Do(t.Context(), "a", func(context.Context) (int, error) {
					runs++
					time.Sleep(time.Second) // virtual
					return runs, nil
				})
				if got != 1 || err != nil {
					t.Errorf("got %d, %v", got, err)
				}
			})
		}
		wg.Wait()
		if again, _ := s.Do(t.Context(), "a", func(context.Context) (int, error) { runs++; return runs, nil }); again != 2 {
			t.Errorf("a later call got %d, want a result of its own", again)
		}
	})
}

func TestFirstCallerThatGivesUpTakesNothingFromTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Shared[string]
		slow := func(ctx context.Context) (string, error) {
			select {
			case <-ctx.Done():
				return "", ctx.Err()
			case <-time.After(time.Minute):
				return "done", nil
			}
		}
		impatient, leave := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Do(impatient, "a", slow); !errors.Is(err, gone) {
				t.Errorf("the one who left got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if got, err := s.Do(t.Context(), "a", slow); got != "done" || err != nil {
				t.Errorf("the one who stayed got %q, %v", got, err)
			}
		})
		synctest.Wait()
		leave(gone)
		wg.Wait()
	})
}

func TestLastCallerEndsTheExecution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Shared[int]
		ctx, cancel := context.WithCancel(t.Context())
		ended := false
		go cancel()
		_, err := s.Do(ctx, "a", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			ended = true
			return 0, ctx.Err()
		})
		if !errors.Is(err, context.Canceled) || !ended {
			t.Errorf("got %v; ended: %v", err, ended)
		}
		if got, err := s.Do(t.Context(), "a", func(context.Context) (int, error) { return 7, nil }); got != 7 || err != nil {
			t.Errorf("afterwards got %d, %v", got, err)
		}
	})
}
