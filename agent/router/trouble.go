package router

import (
	"log/slog"
	"sync"
	"time"

	"slipway/api"
)

// troubleInterval is how often one service's failures are logged at most.
const troubleInterval = 10 * time.Second

// troubles logs failed requests, one line per service and interval however many there are.
type troubles struct {
	logger *slog.Logger

	mu sync.Mutex

	quiet map[api.ServiceKey]*trouble
}

// trouble is a service whose failures were logged a moment ago.
type trouble struct {
	since  time.Time
	count  int // since then
	status int // of the last one
	err    error
}

// note logs the first failure of a burst and counts the others.
func (t *troubles) note(key api.ServiceKey, status int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.quiet[key]; b != nil {
		b.count++
		b.status, b.err = status, err
		return
	}
	t.quiet[key] = &trouble{since: time.Now()}
	t.log(key, status, err, 1)
}

// sweep logs what was counted since an interval ago.
func (t *troubles) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, b := range t.quiet {
		if now.Sub(b.since) < troubleInterval {
			continue
		}
		if b.count == 0 {
			delete(t.quiet, key)
			continue
		}
		t.log(key, b.status, b.err, b.count)
		*b = trouble{since: now}
	}
}

func (t *troubles) log(key api.ServiceKey, status int, err error, count int) {
	t.logger.Warn("requests failed", "app", key.App, "service", key.Service, "status", status, "count", count, "err", err)
}
