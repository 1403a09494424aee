package health

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"slipway/api"
)

func web(port int) *api.ServiceSpec {
	return &api.ServiceSpec{
		Port:   api.Port{Number: port, Scheme: api.SchemeHTTP},
		Health: api.Health{Path: "/check", Grace: 5 * time.Second, Interval: 5 * time.Second, Timeout: 4 * time.Second},
	}
}

func TestMachine(t *testing.T) {
	start := time.Unix(1000, 0)
	fail := func(kind string, after time.Duration) api.ProbeResult {
		return api.ProbeResult{Kind: kind, Error: "refused", At: start.Add(after)}
	}
	pass := func(kind string) api.ProbeResult { return api.ProbeResult{Kind: kind} }

	m := NewMachine(web(80), start)
	for i := range 100 {
		if v := m.Step(fail(KindHealth, time.Duration(i)*40*time.Millisecond)); v.Health != api.HealthUnknown || v.Probe == nil {
			t.Fatalf("failure %d within the grace: %+v", i, v)
		}
	}
	for i, want := range []api.HealthState{api.HealthUnknown, api.HealthUnknown, api.HealthUnhealthy} {
		if v := m.Step(fail(KindHealth, 6*time.Second)); v.Health != want {
			t.Errorf("failure %d after the grace: %s, want %s", i+1, v.Health, want)
		}
	}
	if v := m.Step(pass(KindHealth)); v.Health != api.HealthHealthy || v.Probe != nil {
		t.Errorf("one success: %+v, want healthy", v)
	}
	if v := m.Step(fail(KindHealth, time.Minute)); v.Health != api.HealthHealthy {
		t.Errorf("one failure of a healthy process: %s, want healthy", v.Health)
	}

	spec := web(80)
	spec.Startup = &api.Probe{SuccessThreshold: 1, FailureThreshold: 3}
	spec.Liveness = &api.Probe{FailureThreshold: 2}
	m = NewMachine(spec, start)
	for range 10 {
		if v := m.Step(fail(KindLiveness, time.Minute)); v.Condemned != "" {
			t.Fatalf("liveness counts before the start: %+v", v)
		}
	}
	if v := m.Step(pass(KindHealth)); v.Health != api.HealthUnknown {
		t.Errorf("healthy before the startup check passed: %+v", v)
	}
	m.Step(pass(KindStartup))
	if v := m.Step(pass(KindHealth)); v.Health != api.HealthHealthy {
		t.Errorf("after the startup check: %+v", v)
	}
	m.Step(fail(KindLiveness, time.Minute))
	if v := m.Step(fail(KindLiveness, time.Minute)); !strings.Contains(v.Condemned, "liveness check failed 2 times") {
		t.Errorf("two failed liveness checks: %+v", v)
	}
}

func TestWatchIsEagerThenSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMachine(web(80), time.Now())
		var age time.Duration
		n := 0
		for ; age < time.Second; n++ {
			w := m.Wait(KindHealth, n)
			if w > 5*time.Millisecond+age/4 {
				t.Errorf("at the age of %s a process waits %s for its next probe", age, w)
			}
			age += w
		}
		if n > 30 {
			t.Errorf("a process is probed %d times in its first second", n)
		}
		if w := m.Wait(KindHealth, 1000); w != eagerMax {
			t.Errorf("an old one waits %s, want %s", w, eagerMax)
		}
		m.Step(api.ProbeResult{Kind: KindHealth})
		if w := m.Wait(KindHealth, 5); w != 5*time.Second {
			t.Errorf("a healthy process is probed every %s, want 5 s", w)
		}
	})
}

// TestWatch: of a process that has just started it is not told that it does not answer yet.
func TestWatch(t *testing.T) {
	for name, age := range map[string]time.Duration{"young": 0, "old": 2 * patience} {
		t.Run(name, func(t *testing.T) {
			var paths []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				paths = append(paths, r.URL.Path)
				if len(paths) < 3 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			defer s.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var seen []Verdict
			probes := 0
			Watch(ctx, web(port(t, s.Listener.Addr())), "127.0.0.1", time.Now().Add(-age), func(api.ProbeResult) { probes++ }, func(v Verdict) {
				if seen = append(seen, v); v.Health == api.HealthHealthy {
					cancel()
				}
			})
			if probes < 3 || len(seen) == 0 || seen[len(seen)-1].Health != api.HealthHealthy || paths[0] != "/check" {
				t.Errorf("verdicts %+v, paths %q", seen, paths)
			}
			failed := len(seen) > 1 && seen[0].Probe != nil && seen[0].Probe.Status == http.StatusServiceUnavailable
			if failed != (age > 0) {
				t.Errorf("verdicts %+v", seen)
			}
		})
	}
}

func TestSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, ok := listening("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1"); !ok || got != "tcp 127.0.0.1:8080" {
		t.Errorf("parsed %q, %v", got, ok)
	}
	all, err := Sockets(os.Getpid())
	if err != nil || len(all) < socketsMax && !slices.Contains(all, "tcp "+l.Addr().String()) {
		t.Errorf("%q, %v; want %s in it", all, err, l.Addr())
	}
}
