package agent

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"slipway/agent/health"
	"slipway/api"
)

// scrape reads a registry as Prometheus does.
func scrape(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	a, err := New(Config{
		Dir: t.TempDir(), Node: api.Node{ID: "none"}, Metrics: reg, LogBytes: func() float64 { return 42 }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer a.store.close()
	l := &lab{finding: Finding{Health: api.HealthHealthy}}
	supervised(t, l, func(s *supervisor, status func() api.ProcessStatus) {
		s.acted = a.metrics.acted
		report := s.report
		s.report = func(id api.ProcessID, st api.ProcessStatus) { report(id, st); a.report(id, st) }
		if st := status(); st.State != api.StateRunning {
			t.Fatalf("%+v", st)
		}
		l.onTerm = func(sig syscall.Signal) { s.exits <- Exit{Code: 0, At: time.Now()} }
		stop := *web()
		stop.Desired = api.DesiredStop
		s.wants <- want{assignment: &stop}
		if st := status(); st.State != api.StateExited {
			t.Fatalf("%+v", st)
		}
	})
	a.report("ptwo", api.ProcessStatus{State: api.StateRunning})
	a.metrics.probed(api.ProbeResult{Kind: health.KindHealth})
	a.metrics.probed(api.ProbeResult{Kind: health.KindLiveness, Error: "refused"})
	a.metrics.acted(ActPull, time.Second, api.Errorf(api.CodeNotFound, "no such image"))
	text := scrape(t, reg)
	for _, line := range []string{
		`slipway_agent_processes{state="running"} 1`, `slipway_agent_processes{state="exited"} 1`, `slipway_agent_processes{state="pulling"} 0`,
		`slipway_agent_action_seconds_count{action="term"} 1`, `slipway_agent_action_seconds_count{action="kill"} 0`,
		`slipway_agent_action_failures_total{action="pull"} 1`, `slipway_agent_probes_total{kind="health",result="passed"} 1`,
		`slipway_agent_probes_total{kind="liveness",result="failed"} 1`, `slipway_agent_log_bytes 42`, `slipway_agent_attached 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("without %s:\n%s", line, text)
		}
	}
}
