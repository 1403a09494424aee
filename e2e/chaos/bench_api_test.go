package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"slipway/api"
	rackapi "slipway/api/client"
	"slipway/e2e/bench"
)

const (
	// apiClients is how many clients write through the API at once, each to an app of its own.
	apiClients = 32
	apiTime    = 5 * time.Second
)

// apiRows measures writes through the public API of three server processes: each client sets a
// variable of its app, and the next when the answer is there.
func apiRows(t *testing.T, rows *bench.Report) {
	m := newMachines(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), settleMax)
	defer cancel()
	var clients []*rackapi.Client
	for i := range apiClients {
		c := m.client(i % len(m.all))
		defer c.Close()
		if _, err := c.CreateApp(ctx, appOf(i)); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	before := syncRate(t)
	times, took := m.writeAll(ctx, clients)
	alone := (before + syncRate(t)) / 2
	rate := float64(len(times)) / took.Seconds()
	note := fmt.Sprintf("env set by %d clients, each on an app of its own, through the gRPC API of 3 server processes, two thirds by way of followers; p50 %s, p99 %s",
		apiClients, bench.Median(times).Round(10*time.Microsecond), times[len(times)*99/100].Round(10*time.Microsecond))
	rows.Add("api_writes_per_s_32", rate, "1/s", diskAlone, alone, note)
}

func appOf(i int) api.AppName { return api.AppName(fmt.Sprint("bench-", i)) }

// writeAll has every client write for a while and returns how long each write took, in order.
func (m *machines) writeAll(ctx context.Context, clients []*rackapi.Client) (all []time.Duration, took time.Duration) {
	m.t.Helper()
	var mu sync.Mutex
	var failed error
	var writing sync.WaitGroup
	began := time.Now()
	for i, c := range clients {
		writing.Go(func() {
			var times []time.Duration
			var err error
			for n := 0; err == nil && time.Since(began) < apiTime; n++ {
				at := time.Now()
				_, err = c.SetEnv(ctx, appOf(i), rackapi.EnvChange{Set: map[string]string{"N": fmt.Sprint(n)}})
				times = append(times, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, times...), errors.Join(failed, err)
		})
	}
	writing.Wait()
	if took = time.Since(began); failed != nil {
		m.t.Fatalf("%v\n%s", failed, m.picture())
	}
	slices.Sort(all)
	return all, took
}
