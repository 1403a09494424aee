package agent

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"slipway/agent/health"
	"slipway/api"
)

// metrics are what the agent counts as it goes. docs/metrics.md describes them.
type metrics struct {
	actions  *prometheus.HistogramVec
	failures *prometheus.CounterVec
	probes   *prometheus.CounterVec
	sessions prometheus.Counter
	attached prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		actions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "slipway_agent_action_seconds", Help: "Duration of the actions that succeeded, by action.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"action"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_agent_action_failures_total", Help: "Actions that failed, by action.",
		}, []string{"action"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_agent_probes_total", Help: "Probes made, by kind of check and result: passed or failed.",
		}, []string{"kind", "result"}),
		sessions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "slipway_agent_sessions_total", Help: "Sessions begun with a server.",
		}),
		attached: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "slipway_agent_attached", Help: "1 while a session with a server is open.",
		}),
	}
}

// register makes the agent's metrics visible, with 0 for what has not happened yet.
func (a *Agent) register(reg prometheus.Registerer) error {
	m := a.metrics
	for act := ActPull; act < ActForget; act++ {
		m.actions.WithLabelValues(act.String())
		m.failures.WithLabelValues(act.String())
	}
	for _, kind := range []string{health.KindHealth, health.KindLiveness, health.KindStartup} {
		m.probes.WithLabelValues(kind, "passed")
		m.probes.WithLabelValues(kind, "failed")
	}
	logBytes := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "slipway_agent_log_bytes", Help: "Size of the logs that the node keeps, in bytes.",
	}, func() float64 {
		if a.cfg.LogBytes == nil {
			return 0
		}
		return a.cfg.LogBytes()
	})
	for _, c := range []prometheus.Collector{m.actions, m.failures, m.probes, m.sessions, m.attached, processCounts{a}, logBytes} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// acted notes the outcome of an action.
func (m *metrics) acted(act Action, took time.Duration, err error) {
	if errors.Is(err, context.Canceled) {
		return // broken off, because it had lost its point
	}
	if err != nil {
		m.failures.WithLabelValues(act.String()).Inc()
		return
	}
	m.actions.WithLabelValues(act.String()).Observe(took.Seconds())
}

// probed notes the result of a probe.
func (m *metrics) probed(r api.ProbeResult) {
	result := "passed"
	if r.Error != "" {
		result = "failed"
	}
	m.probes.WithLabelValues(r.Kind, result).Inc()
}

// processCounts counts the processes of the node by state, when it is asked.
type processCounts struct{ agent *Agent }

var processesDesc = prometheus.NewDesc("slipway_agent_processes", "Processes of the node, by state.", []string{"state"}, nil)

// Describe implements prometheus.Collector.
func (processCounts) Describe(ch chan<- *prometheus.Desc) { ch <- processesDesc }

// Collect implements prometheus.Collector.
func (c processCounts) Collect(ch chan<- prometheus.Metric) {
	var counts [api.StateLost + 1]int
	c.agent.mu.Lock()
	for _, s := range c.agent.states {
		counts[s]++
	}
	c.agent.mu.Unlock()
	for s := api.StateAssigned; s < api.StateLost; s++ { // the others are the servers' word
		ch <- prometheus.MustNewConstMetric(processesDesc, prometheus.GaugeValue, float64(counts[s]), s.String())
	}
}
