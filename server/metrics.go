package server

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"slipway/api"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/auth"
)

// metrics are what the server counts as it goes. docs/metrics.md describes them.
type metrics struct {
	commits  prometheus.Histogram
	passes   prometheus.Histogram
	commands *prometheus.CounterVec
	plans    *prometheus.HistogramVec
	lacking  *prometheus.GaugeVec
}

func newMetrics() *metrics {
	return &metrics{
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "slipway_raft_commit_seconds", Help: "Time from proposing an entry until it was applied, on the leader.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "slipway_loop_pass_seconds", Help: "Duration of one pass of the leader, with its proposals.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
		}),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_loop_commands_total", Help: "Commands that the leader's steps decided on, by type.",
		}, []string{"command"}),
		plans: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "slipway_plan_processes", Help: "Processes that one plan of the scheduler moves, by what happens to them: place or stop.",
			Buckets: []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000},
		}, []string{"move"}),
		lacking: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "slipway_content_missing", Help: "What this server does not hold yet of what the rack needs, by kind: image or source. It is fetched from the others.",
		}, []string{"kind"}),
	}
}

// register makes the server's metrics visible.
func (m *metrics) register(reg prometheus.Registerer, store *raftstore.Store) error {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	for _, c := range []prometheus.Collector{
		m.commits, m.passes, m.commands, m.plans, m.lacking, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), census{store},
		gauge("slipway_raft_applied_index", "Index of the newest applied entry.", func() float64 { return float64(store.View().Index()) }),
		gauge("slipway_leader", "1 while this server leads the rack.", func() float64 {
			if store.IsLeader() {
				return 1
			}
			return 0
		}),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// missing returns what notes how much of a kind of content is missing.
func (m *metrics) missing(kind string) func(int) {
	g := m.lacking.WithLabelValues(kind)
	return func(n int) { g.Set(float64(n)) }
}

// committed notes an entry of Raft.
func (m *metrics) committed(took time.Duration) { m.commits.Observe(took.Seconds()) }

// passed notes a pass of the leader.
func (m *metrics) passed(took time.Duration) { m.passes.Observe(took.Seconds()) }

// proposed notes what a pass decided.
func (m *metrics) proposed(decided []state.Entry) {
	for _, e := range decided {
		m.commands.WithLabelValues(e.Command.Type()).Inc()
		plan, ok := e.Command.(state.ApplyPlan)
		if !ok {
			continue
		}
		for move, n := range map[string]int{"place": (&api.Plan{Place: plan.Place, Assign: plan.Assign}).Placed(), "stop": len(plan.Stop)} {
			if n > 0 {
				m.plans.WithLabelValues(move).Observe(float64(n))
			}
		}
	}
}

// census counts what the rack has, when it is asked.
type census struct{ store *raftstore.Store }

var (
	processesDesc = prometheus.NewDesc("slipway_processes", "Live processes of the rack, by state.", []string{"state"}, nil)
	nodesDesc     = prometheus.NewDesc("slipway_nodes", "Nodes of the rack, by status.", []string{"status"}, nil)
	appsDesc      = prometheus.NewDesc("slipway_apps", "Apps of the rack.", nil, nil)
	waitingDesc   = prometheus.NewDesc("slipway_services_waiting", "Services with copies that no node has room for.", nil, nil)
)

// Describe implements prometheus.Collector.
func (census) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{processesDesc, nodesDesc, appsDesc, waitingDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c census) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	v := c.store.View()
	var states [api.StateLost + 1]int
	for p := range v.LiveProcesses() {
		states[p.Observed.State]++
	}
	for s := api.StatePending; s < api.StateExited; s++ {
		gauge(processesDesc, states[s], s.String())
	}
	nodes := map[api.NodeStatus]int{api.NodeReady: 0, api.NodeDown: 0}
	for n := range v.Nodes() {
		nodes[n.Status]++
	}
	for status, n := range nodes {
		gauge(nodesDesc, n, string(status))
	}
	apps, waiting := 0, 0
	for range v.Apps() {
		apps++
	}
	for s := range v.AllServices() {
		if s.Waiting != "" {
			waiting++
		}
	}
	gauge(appsDesc, apps)
	gauge(waitingDesc, waiting)
}

// measured admits those who may read metrics: this machine, and tokens that read every app.
func (s *Server) measured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.mayMeasure(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="slipway"`)
			http.Error(w, "metrics are for this machine and for tokens that may read every app; send one as a bearer token", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) mayMeasure(r *http.Request) bool {
	if secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		who, err := s.guard.Identify(strings.TrimSpace(secret))
		return err == nil && who.Can(auth.RightRead) && len(who.Apps) == 0
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}
