package router

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"slipway/api"
)

// counters are the numbers of api.RouterStatus.
type counters struct{ requests, errors, retries atomic.Uint64 }

// metrics are the router's Prometheus series, by app and service.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	retries  *prometheus.CounterVec
	cut      *prometheus.CounterVec
	errors   *prometheus.CounterVec
	upstream *prometheus.CounterVec
	inFlight *prometheus.GaugeVec

	mu sync.Mutex

	routes map[api.ServiceKey]*routeMetrics
}

// routeMetrics are the series of one service, looked up once.
type routeMetrics struct {
	requests *prometheus.CounterVec // of this service, by code
	upstream *prometheus.CounterVec // of this service, by reason
	duration prometheus.Observer
	retries  prometheus.Counter
	cut      prometheus.Counter
	errors   prometheus.Counter
	inFlight prometheus.Gauge
	// codes are the counters of the statuses seen so far, so that a request looks one up
	// without building its labels again.
	codes [500]atomic.Pointer[prometheus.Counter] // from 100 on
}

// answered counts a request that was answered with a status.
func (rm *routeMetrics) answered(status int) {
	i := status - 100
	if i < 0 || i >= len(rm.codes) {
		return
	}
	c := rm.codes[i].Load()
	if c == nil {
		made := rm.requests.WithLabelValues(strconv.Itoa(status))
		c = &made
		rm.codes[i].Store(c)
	}
	(*c).Inc()
}

// Why a try brought no whole response.
const (
	reasonConnect = "connect" // no connection could be made
	reasonTimeout = "timeout" // nothing came within the route's timeout
	reasonBroken  = "broken"  // the connection ended, or what came was no response
)

// failed counts a try that the process is to blame for.
func (rm *routeMetrics) failed(fail *failure) {
	reason := reasonBroken
	switch {
	case fail.dial:
		reason = reasonConnect
	case isTimeout(fail.err):
		reason = reasonTimeout
	}
	rm.upstream.WithLabelValues(reason).Inc()
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	labels := []string{"app", "service"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "slipway_router_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests: counter("requests_total", "Requests answered, by status.", "app", "service", "code"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "slipway_router_request_seconds",
			Help:    "Time from the head of a request to the end of its response.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, labels),
		retries: counter("retries_total", "Requests sent again.", labels...),
		cut:     counter("responses_cut_total", "Responses that ended before their body did.", labels...),
		errors:  counter("errors_total", "Requests that the router itself answered with 502, 503 or 504.", labels...),
		upstream: counter("upstream_errors_total", "Tries that brought no whole response, by reason: connect, timeout or broken.",
			"app", "service", "reason"),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "slipway_router_in_flight",
			Help: "Requests and upgraded connections in flight.",
		}, labels),
		routes: make(map[api.ServiceKey]*routeMetrics),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.retries, m.cut, m.errors, m.upstream, m.inFlight} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// route returns the series of a service.
func (m *metrics) route(key api.ServiceKey) *routeMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rm := m.routes[key]; rm != nil {
		return rm
	}
	app, service := string(key.App), string(key.Service)
	labels := prometheus.Labels{"app": app, "service": service}
	rm := &routeMetrics{
		requests: m.requests.MustCurryWith(labels),
		upstream: m.upstream.MustCurryWith(labels),
		duration: m.duration.WithLabelValues(app, service),
		retries:  m.retries.WithLabelValues(app, service),
		cut:      m.cut.WithLabelValues(app, service),
		errors:   m.errors.WithLabelValues(app, service),
		inFlight: m.inFlight.WithLabelValues(app, service),
	}
	m.routes[key] = rm
	return rm
}

// keep forgets the series of services that the table does not name.
func (m *metrics) keep(spec api.RouteTable) {
	named := make(map[api.ServiceKey]bool, len(spec.Routes))
	for _, rs := range spec.Routes {
		named[rs.Key] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.routes {
		if named[key] {
			continue
		}
		delete(m.routes, key)
		labels := prometheus.Labels{"app": string(key.App), "service": string(key.Service)}
		m.requests.DeletePartialMatch(labels)
		m.duration.DeletePartialMatch(labels)
		m.retries.DeletePartialMatch(labels)
		m.cut.DeletePartialMatch(labels)
		m.errors.DeletePartialMatch(labels)
		m.upstream.DeletePartialMatch(labels)
		m.inFlight.DeletePartialMatch(labels)
	}
}

// record counts a request that has ended.
func (r *Router) record(f *flight, start time.Time) {
	f.route.metrics.answered(f.status)
	if f.status != 101 { // an upgraded connection says nothing about speed
		f.route.metrics.duration.Observe(time.Since(start).Seconds())
	}
}

// register adds what is read from the router itself, when it is asked.
func (r *Router) register(reg prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{
		present{r}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// present reports what the router holds now.
type present struct{ router *Router }

var (
	processInFlightDesc = prometheus.NewDesc("slipway_router_process_in_flight",
		"Requests and upgraded connections in flight, by process.", []string{"process"}, nil)
	versionDesc = prometheus.NewDesc("slipway_router_table_version", "Version of the route table in force.", nil, nil)
	routesDesc  = prometheus.NewDesc("slipway_router_routes", "Routes of the table in force.", nil, nil)
	targetsDesc = prometheus.NewDesc("slipway_router_targets", "Processes that the table in force names.", nil, nil)
	clientsDesc = prometheus.NewDesc("slipway_router_client_connections", "Open connections of clients.", nil, nil)
)

// Describe implements prometheus.Collector.
func (present) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{processInFlightDesc, versionDesc, routesDesc, targetsDesc, clientsDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c present) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	t := c.router.table.Load()
	gauge(versionDesc, float64(t.spec.Version))
	gauge(routesDesc, float64(len(t.spec.Routes)))
	gauge(targetsDesc, float64(len(t.targets)))
	gauge(clientsDesc, float64(c.router.clients.Load()))
	sums := make(map[api.ProcessID]int)
	for id, tg := range t.targets {
		sums[id.process] += tg.inFlight()
	}
	for _, d := range c.router.draining() {
		sums[d.Process] += d.InFlight
	}
	for process, n := range sums {
		gauge(processInFlightDesc, float64(n), string(process))
	}
}
