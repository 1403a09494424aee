package router

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slipway/api"
)

// TestRouter is the story: a table comes in, requests go to its targets, a newer table moves
// them, and the old target is reported until its last request has ended.
func TestRouter(t *testing.T) {
	t.Parallel()
	arrived, finish := make(chan struct{}), make(chan struct{})
	old := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-finish
		}
		fmt.Fprint(w, "old")
	})
	next := backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "new") })
	g := newRig(t)
	if resp, body := g.get("/"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("without a table: %s %q, want 503 with Retry-After", resp.Status, body)
	}
	if st := g.apply(lead(old)); st.Version != 1 {
		t.Errorf("status %+v, want version 1", st)
	}
	if _, body := g.get("/"); body != "old" {
		t.Errorf("got %q from the old target", body)
	}
	slow := make(chan string)
	go func() {
		_, body := g.get("/slow")
		slow <- body
	}()
	<-arrived
	st := g.apply(lead(next))
	if len(st.Draining) != 1 || st.Draining[0] != (api.DrainingTarget{Process: process(old), InFlight: 1}) {
		t.Errorf("draining %+v, want the old process with one request", st.Draining)
	}
	if _, body := g.get("/"); body != "new" {
		t.Errorf("got %q after the table moved on", body)
	}
	drained := make(chan struct{})
	go g.client.Watch(t.Context(), func(st api.RouterStatus) {
		if len(st.Draining) == 0 && st.Version == 2 {
			close(drained)
			<-t.Context().Done()
		}
	})
	close(finish)
	if body := <-slow; body != "old" {
		t.Errorf("the request in flight got %q", body)
	}
	select {
	case <-drained:
	case <-time.After(deadline):
		t.Fatal("the watcher was not told that the target drained")
	}
	if resp, body := g.do("GET", "/", nil, func(r *http.Request) { r.Host = "nobody.test" }); resp.StatusCode != 404 {
		t.Errorf("unknown host: %s %q", resp.Status, body)
	}
	if resp, _ := func() (*http.Response, string) { g.apply(lead()); return g.get("/") }(); resp.StatusCode != 503 {
		t.Errorf("no targets: %s, want 503", resp.Status)
	}
}

// TestSwapUnderLoad moves the only target back and forth under load: nobody may notice, and a
// target that was reported drained may not get another request.
func TestSwapUnderLoad(t *testing.T) {
	t.Parallel()
	var addrs [2]string
	var out [2]atomic.Bool // the target has drained
	var late atomic.Int64
	for i := range addrs {
		addrs[i] = backend(t, func(w http.ResponseWriter, r *http.Request) {
			if out[i].Load() {
				late.Add(1)
			}
			io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, "ok")
		})
	}
	g := newRig(t)
	g.apply(lead(addrs[0]))
	stop := make(chan struct{})
	var wait sync.WaitGroup
	var requests, failures atomic.Int64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: deadline}
	defer client.CloseIdleConnections()
	for range 8 {
		wait.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				method, body := "GET", io.Reader(nil)
				if i%3 == 0 {
					method, body = "POST", strings.NewReader("some body")
				}
				req, _ := http.NewRequest(method, "http://"+g.router.HTTPAddr()+"/", body)
				req.Host = "app.test"
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("request: %v", err)
					failures.Add(1)
					return
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || err != nil || string(b) != "ok" {
					t.Errorf("%s %s: %s %q %v", method, req.URL, resp.Status, b, err)
					failures.Add(1)
				}
				requests.Add(1)
			}
		})
	}
	for i := 1; i <= 200; i++ {
		now, before := i%2, 1-i%2
		out[now].Store(false)
		st := g.apply(lead(addrs[now]))
		eventually(t, "drained", func() (bool, string) {
			if len(st.Draining) > 0 {
				st, _ = g.client.Status(t.Context())
			}
			return len(st.Draining) == 0, fmt.Sprintf("%+v", st.Draining)
		})
		out[before].Store(true)
	}
	close(stop)
	wait.Wait()
	if failures.Load() > 0 || late.Load() > 0 || requests.Load() == 0 {
		t.Errorf("%d requests, %d failed, %d came after their target had drained", requests.Load(), failures.Load(), late.Load())
	}
	t.Logf("%d requests over 200 tables", requests.Load())
}

func TestRestart(t *testing.T) {
	t.Parallel()
	addr := backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	state := filepath.Join(t.TempDir(), "table.json")
	g := newRig(t, func(c *Config) { c.StateFile = state })
	g.apply(lead(addr))
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(g.cfg.ControlSocket); !os.IsNotExist(err) {
		t.Errorf("control socket left behind: %v", err)
	}
	g.start()
	if _, body := g.get("/"); body != "ok" {
		t.Errorf("after a restart: %q", body)
	}
	if _, err := g.client.Apply(t.Context(), api.RouteTable{Version: 0}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("older table: %v, want a conflict", err)
	}
	if _, err := New(g.cfg); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("second router on the socket: %v, want a conflict", err)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, []byte("{not json"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start()
	if st := g.apply(lead(addr)); st.Version != 2 {
		t.Errorf("after a broken state file: %+v", st)
	}
}
