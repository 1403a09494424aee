package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// load is many clients that keep their connections and ask all the time, each by one router.
type load struct {
	t    *testing.T
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	count  int
	failed []failure
	// slowest is how long a request took at most, by router.
	slowest map[string]time.Duration
}

// failure is one request that was not answered well.
type failure struct {
	router string // name of the node
	began  time.Time
	took   time.Duration
	err    string
}

func (f failure) String() string {
	return fmt.Sprintf("%s by %s after %s: %s", f.began.Format("15:04:05.000"), f.router, f.took.Round(time.Millisecond), f.err)
}

// requestMax bounds one request of the load.
const requestMax = 20 * time.Second

// loaded starts clients of an app, spread over the routers of the nodes. The first few of them speak
// HTTP/2.
func (r *rack) loaded(app string, clients, http2 int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: r.t, stop: cancel, slowest: map[string]time.Duration{}}
	for i := range clients {
		node := r.Cluster.Nodes()[i%len(r.Cluster.Nodes())]
		c, idle := clientOf(net.JoinHostPort(node.Addr().String(), "443"), app+"."+Domain)
		c.Transport.(*http.Transport).ForceAttemptHTTP2 = i < http2
		l.done.Go(func() {
			defer idle()
			l.client(ctx, node.Name(), c, "https://"+app+"."+Domain+"/")
		})
	}
	r.t.Cleanup(l.end)
	return l
}

// client asks again and again over one connection.
func (l *load) client(ctx context.Context, router string, c *http.Client, url string) {
	for ctx.Err() == nil {
		began := time.Now()
		err := get(ctx, c, url)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.count++
		l.slowest[router] = max(l.slowest[router], time.Since(began))
		if err != nil {
			l.failed = append(l.failed, failure{router, began, time.Since(began), err.Error()})
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond): // the machine has other things to do
		}
	}
}

// clientOf asks for a host by one router, over one connection that it keeps. idle closes that.
func clientOf(addr, host string) (c *http.Client, idle func()) {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: host}, MaxIdleConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, addr)
		},
	}
	return &http.Client{Transport: transport, Timeout: requestMax}, transport.CloseIdleConnections
}

func get(ctx context.Context, c *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(b), "GET") {
		return fmt.Errorf("%s: %.200s", resp.Status, b)
	}
	return nil
}

// begun waits until the load is there.
func (l *load) begun(r *rack) {
	l.t.Helper()
	r.await("load", 10*time.Second, func() (string, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return fmt.Sprint(l.count), l.count > 200
	})
	l.unharmed("nothing")
}

// end stops the clients.
func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// since returns what has failed since it was asked last, how many requests there were, and the
// longest by each router.
func (l *load) since() (failed []failure, count int, slowest string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	failed, count = l.failed, l.count
	for _, router := range slices.Sorted(maps.Keys(l.slowest)) {
		slowest += fmt.Sprintf(" %s %s", router, l.slowest[router].Round(time.Millisecond))
	}
	l.failed, l.count = nil, 0
	clear(l.slowest)
	return failed, count, slowest
}

// unharmed fails the test if requests failed, but for those by the routers that may have lost some.
func (l *load) unharmed(what string, but ...string) {
	l.t.Helper()
	failed, count, slowest := l.since()
	var bad []string
	for _, f := range failed {
		excused := false
		for _, router := range but {
			excused = excused || f.router == router
		}
		if !excused {
			bad = append(bad, f.String())
		}
	}
	l.t.Logf("%s: %d requests, %d failed, %d of them by %q; slowest:%s", what, count, len(failed), len(failed)-len(bad), but, slowest)
	if count == 0 {
		l.t.Errorf("%s: there was no load", what)
	}
	if len(bad) > 0 {
		l.t.Errorf("%s: %d of %d requests failed:\n%s", what, len(bad), count, strings.Join(bad[:min(len(bad), 20)], "\n"))
	}
}
