package router

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestHandover replaces the router under load: no connection is refused and no request fails, a
// socket that the predecessor carries is reported by the successor, and the predecessor ends
// when it has nothing left.
func TestHandover(t *testing.T) {
	t.Parallel()
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "ok")
	})
	sockets := echo(t)
	g := newRig(t, func(c *Config) { c.StateFile = filepath.Join(t.TempDir(), "table.json") })
	g.apply(lead(sockets))
	sock := g.socket()
	say(t, sock, "before")
	g.apply(lead(addr))

	var requests atomic.Int64
	stopLoad := g.load(&requests)
	defer stopLoad()
	busy := func(n int64) {
		eventually(t, "more requests", func() (bool, string) { return requests.Load() > n, fmt.Sprint(requests.Load()) })
	}
	busy(20)
	cfg := g.cfg
	cfg.Takeover, cfg.Registry, cfg.HTTPAddr = true, prometheus.NewRegistry(), g.router.HTTPAddr()
	next := &rig{t: t, cfg: cfg, version: g.version}
	next.start()
	defer func() {
		if err := next.stop(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "the successor's status", func() (bool, string) {
		st, err := next.client.Status(t.Context())
		ok := err == nil && len(st.Draining) == 1 && st.Draining[0].Process == process(sockets) && st.Draining[0].InFlight == 1
		return ok, fmt.Sprintf("%+v %v", st, err)
	})
	busy(requests.Load() + 200)
	say(t, sock, "after")
	next.apply(lead(addr))
	if got := g.router.Status().Version; got != next.version {
		t.Errorf("the predecessor serves table %d, the successor %d", got, next.version)
	}
	sock.CloseNow()
	eventually(t, "the predecessor's end", func() (bool, string) {
		st, err := next.client.Status(t.Context())
		return err == nil && len(st.Draining) == 0 && next.router.previous.Load() == nil, fmt.Sprintf("%+v %v", st, err)
	})
	stopLoad()
	if left, _ := filepath.Glob(cfg.ControlSocket + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Logf("%d requests", requests.Load())
}

// load has four clients post to the router, two of them over a new connection each time, until
// the returned function is called. None may fail.
func (g *rig) load(requests *atomic.Int64) (stop func()) {
	stopped := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: deadline}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stopped:
					return
				default:
				}
				req, _ := http.NewRequest("POST", "http://"+g.router.HTTPAddr()+"/", strings.NewReader("x"))
				req.Host = "app.test"
				resp, err := client.Do(req)
				if err != nil {
					g.t.Errorf("request: %v", err)
					return
				}
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "ok" {
					g.t.Errorf("%s %q %v", resp.Status, b, err)
				}
				resp.Body.Close()
				requests.Add(1)
			}
		})
	}
	return sync.OnceFunc(func() {
		close(stopped)
		clients.Wait()
	})
}

// TestHandoverTwice: a router that is replaced again while its own predecessor still carries a
// socket stays as its link to the newest, and asks nothing of the processor meanwhile.
func TestHandoverTwice(t *testing.T) {
	t.Parallel()
	sockets, addr := echo(t), backend(t, mirror)
	g := newRig(t, func(c *Config) { c.StateFile = filepath.Join(t.TempDir(), "table.json") })
	g.apply(lead(sockets))
	sock := g.socket()
	say(t, sock, "before")
	routers := []*rig{g}
	var idle []net.Conn
	for range 2 {
		last := routers[len(routers)-1]
		idle = append(idle, last.idle())
		cfg := last.cfg
		cfg.Takeover, cfg.Registry, cfg.HTTPAddr = true, prometheus.NewRegistry(), last.router.HTTPAddr()
		next := &rig{t: t, cfg: cfg, version: last.version}
		next.start()
		t.Cleanup(func() {
			if err := next.stop(); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "the end of the handover", func() (bool, string) {
			select {
			case <-last.router.handedOver:
				return true, ""
			default:
				return false, "under way"
			}
		})
		routers = append(routers, next)
	}
	for _, c := range idle { // closed when all clients had their time to reconnect
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
	}
	newest := routers[2]
	newest.apply(lead(addr))
	if got := g.router.Status().Version; got != newest.version {
		t.Errorf("the first router serves table %d, the newest %d", got, newest.version)
	}
	eventually(t, "the newest router's status", func() (bool, string) {
		st, err := newest.client.Status(t.Context())
		return err == nil && len(st.Draining) == 1 && st.Draining[0].InFlight == 1, fmt.Sprintf("%+v %v", st, err)
	})
	say(t, sock, "after")
	eventually(t, "a poll of the first router that waits", func() (bool, string) {
		began := time.Now()
		aside := Dial(*g.router.socket.Load())
		path := fmt.Sprintf("/status?after=%d&wait=100ms", g.router.revisionNow())
		err := aside.call(t.Context(), http.MethodGet, path, nil, nil)
		return err == nil && time.Since(began) >= 100*time.Millisecond, fmt.Sprint(err, time.Since(began))
	})
	sock.CloseNow()
	eventually(t, "the end of the routers before", func() (bool, string) {
		st, err := newest.client.Status(t.Context())
		return err == nil && len(st.Draining) == 0 && newest.router.previous.Load() == nil, fmt.Sprintf("%+v %v", st, err)
	})
}

// idle opens a connection on which a request was answered and another may come.
func (g *rig) idle() net.Conn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.router.HTTPAddr())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(deadline))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n"); err != nil {
		g.t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		g.t.Fatal(err)
	}
	return c
}

// TestHandoverAbandoned: a successor that asks and dies changes nothing.
func TestHandoverAbandoned(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apply(lead(backend(t, mirror)))
	p, sockets, err := takeOver(g.cfg.ControlSocket)
	if err != nil || p == nil || len(sockets) != 1 {
		t.Fatalf("%v %v %v", p, sockets, err)
	}
	if _, err := os.Stat(g.cfg.ControlSocket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket was not moved aside: %v", err)
	}
	p.waiting.Close()
	for _, l := range sockets {
		l.Close()
	}
	eventually(t, "the control socket", func() (bool, string) {
		st, err := g.client.Status(t.Context())
		return err == nil, fmt.Sprintf("%+v %v", st, err)
	})
	if resp, body := g.get("/"); resp.StatusCode != 200 {
		t.Errorf("%s %s", resp.Status, body)
	}
}
