package rack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func (r *rack) get(app string) string {
	resp, err := r.client().Get(r.url(app) + "/")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

func TestVerbs(t *testing.T) {
	t.Parallel()
	r := start(t)
	src := r.source("shop", 1, "")
	out := r.must("", "deploy", src, "-a", "shop")
	if !strings.Contains(out, "web v1 is live (1/1") {
		t.Errorf("deploy said:\n%s", out)
	}
	if got := r.get("shop"); got != "one GET 0\n" {
		t.Errorf("the app answers %q", got)
	}
	var services []struct {
		Name, URL, Domain string
		Count, Ready      int
	}
	if err := json.Unmarshal([]byte(r.must("", "services", "-a", "shop", "--json")), &services); err != nil || len(services) != 1 || services[0].Ready != 1 {
		t.Errorf("services %+v, %v", services, err)
	}
	resp, err := r.client().Get(services[0].URL)
	if err != nil {
		t.Errorf("over TLS: %v", err)
	} else {
		resp.Body.Close()
	}

	r.must("VERSION=two\n", "env", "set", "-a", "shop", "--promote")
	if got := r.get("shop"); got != "two GET 0\n" {
		t.Errorf("after env set --promote the app answers %q", got)
	}
	if out := r.must("", "releases", "diff", "v1", "v2", "-a", "shop"); !strings.Contains(out, "VERSION") {
		t.Errorf("diff:\n%s", out)
	}
	r.must("", "releases", "rollback", "v1", "-a", "shop")
	if got := r.get("shop"); got != "one GET 0\n" {
		t.Errorf("after the rollback the app answers %q", got)
	}
	// An unpromoted release can be run.
	r.must("", "env", "set", "MODE=crash", "-a", "shop")
	if out, code := r.slipway("", "run", "web", "--release", "v4", "-a", "shop"); code != 3 || !strings.Contains(out, "no database") {
		t.Errorf("run of a release that exits with 3: code %d\n%s", code, out)
	}
	if out, code := r.slipway("", "exec", "web", "-a", "shop", "--", "/testapp", "x"); code == 0 {
		t.Errorf("exec of a tool that fails: code %d\n%s", code, out)
	}
	r.must("", "scale", "web", "--count", "3", "-a", "shop")
	r.await("third copy", 20*time.Second, func() bool {
		return strings.Count(r.must("", "ps", "-a", "shop"), "running") == 3
	})
	if out := r.must("", "logs", "--no-follow", "-a", "shop"); strings.Count(out, "starting one") < 3 {
		t.Errorf("logs:\n%s", out)
	}
	if out := r.must("", "why", "web", "-a", "shop"); !strings.Contains(out, "scaled by") {
		t.Errorf("why:\n%s", out)
	}
	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(r.must("", "ps", "-a", "shop", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	r.must("", "ps", "stop", list[0].ID, "-a", "shop")
	r.await("replacement of the stopped copy", 20*time.Second, func() bool {
		out := r.must("", "ps", "-a", "shop")
		return strings.Count(out, "running") == 3 && !strings.Contains(out, list[0].ID)
	})
	if out, code := r.slipway("", "ps", "-a", "shopp"); code != 4 || !strings.Contains(out, `did you mean "shop"`) {
		t.Errorf("an unknown app: code %d\n%s", code, out)
	}
	r.must("", "apps", "delete", "shop")
}

func TestBadReleasesGoBackAndSayWhy(t *testing.T) {
	t.Parallel()
	r := start(t)
	src := r.source("shop", 1, "")
	r.must("", "deploy", src, "-a", "shop")
	for mode, says := range map[string][]string{
		"crash":     {"exited with code 3", "cannot go on: no database"},
		"unhealthy": {"/check", "500", "not healthy"},
		"wrongport": {"connection refused", "9999"},
		"deaf":      {"connection refused"},
	} {
		began := time.Now()
		out, code := r.slipway("", "env", "set", "MODE="+mode, "--promote", "-a", "shop")
		if code != 10 {
			t.Errorf("%s: exit code %d\n%s", mode, code, out)
		}
		for _, s := range says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: the output does not say %q:\n%s", mode, s, out)
			}
		}
		if took := time.Since(began); took > 40*time.Second {
			t.Errorf("%s: the verdict took %s", mode, took)
		}
		if got := r.get("shop"); got != "one GET 0\n" {
			t.Errorf("%s: the old version answers %q", mode, got)
		}
		var releases []struct{ ID string }
		if err := json.Unmarshal([]byte(r.must("", "releases", "-a", "shop", "--json")), &releases); err != nil {
			t.Fatal(err)
		}
		out = r.must("", "why", releases[0].ID, "-a", "shop")
		for _, s := range says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: why does not say %q later:\n%s", mode, s, out)
			}
		}
	}
	r.must("", "env", "set", "MODE=", "VERSION=good", "--promote", "-a", "shop")
	if got := r.get("shop"); got != "good GET 0\n" {
		t.Errorf("after the fix the app answers %q", got)
	}
}

// load sends requests over keep-alive connections, POSTs and one websocket until stop, and
// reports every failure.
type load struct {
	requests, failures atomic.Int64
	first              atomic.Pointer[string]
	wg                 sync.WaitGroup
	stop               context.CancelFunc
}

func (l *load) fail(format string, args ...any) {
	l.failures.Add(1)
	text := time.Now().Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	l.first.CompareAndSwap(nil, &text)
}

func (r *rack) load(app string, connections int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	client := r.client()
	for i := range connections {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				method, body := http.MethodGet, ""
				if i%5 == 0 {
					method, body = http.MethodPost, strings.Repeat("x", 10<<10)
				}
				req, _ := http.NewRequest(method, r.url(app)+"/", strings.NewReader(body))
				l.requests.Add(1)
				resp, err := client.Do(req)
				if err != nil {
					l.fail("%s: %v", method, err)
					continue
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(b), fmt.Sprintf("%s %d", method, len(body))) {
					l.fail("%s: %s %q %v", method, resp.Status, b, err)
				}
				time.Sleep(5 * time.Millisecond) // a pace, so that the loader leaves the machine to the rack
			}
		})
	}
	l.wg.Go(func() { l.websocket(ctx, r, app, client) })
	return l
}

// websocket echoes over connections that it opens again when the router asks for it by closing
// with "going away"; any other end is a failure.
func (l *load) websocket(ctx context.Context, r *rack, app string, client *http.Client) {
	for ctx.Err() == nil {
		c, _, err := websocket.Dial(context.Background(), strings.Replace(r.url(app), "http", "ws", 1)+"/echo", &websocket.DialOptions{HTTPClient: &http.Client{Transport: client.Transport}})
		if err != nil {
			l.fail("websocket: %v", err)
			continue
		}
		for ctx.Err() == nil {
			err := c.Write(context.Background(), websocket.MessageText, []byte("hello"))
			if err == nil {
				_, _, err = c.Read(context.Background())
			}
			if err != nil {
				if websocket.CloseStatus(err) != websocket.StatusGoingAway {
					l.fail("websocket: %v", err)
				}
				break
			}
			l.requests.Add(1)
			time.Sleep(20 * time.Millisecond) // a pace
		}
		c.CloseNow()
	}
}

// end stops the load and returns how much of it failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	if n := l.failures.Load(); n > 0 || l.requests.Load() < 100 {
		t.Errorf("%d of %d requests failed, the first: %s", n, l.requests.Load(), *l.first.Load())
	}
	t.Logf("%d requests", l.requests.Load())
}

func TestRollingDeploysLoseNoRequest(t *testing.T) {
	t.Parallel()
	for _, copies := range []int{2, 1} {
		t.Run(fmt.Sprint(copies, " copies"), func(t *testing.T) {
			t.Parallel()
			r := start(t)
			src := r.source("shop", copies, "    drain: 3\n")
			r.must("", "deploy", src, "-a", "shop")
			l := r.load("shop", 50)
			for i := range 20 {
				version := fmt.Sprintf("v%d", i)
				if i == 10 {
					// The daemon dies while a deployment is on its way, and comes back.
					r.must("", "env", "set", "VERSION="+version, "-a", "shop")
					r.must("", "releases", "promote", "--wait=false", "-a", "shop")
					r.kill()
					r.launch()
					r.await("deployment that goes on", time.Minute, func() bool { return strings.HasPrefix(r.get("shop"), version) })
					continue
				}
				r.must("", "env", "set", "VERSION="+version, "--promote", "-a", "shop")
				if got := r.get("shop"); !strings.HasPrefix(got, version+" ") {
					t.Errorf("deploy %d: the app answers %q", i, got)
				}
			}
			l.end(t)
		})
	}
}
