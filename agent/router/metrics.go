package router

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	inFlight *prometheus.GaugeVec

	mu sync.Mutex

	routes map[api.ServiceKey]*routeMetrics
}

// routeMetrics are the series of one service, looked up once.
type routeMetrics struct {
	classes  [6]prometheus.Counter // by the first digit of the status
	duration prometheus.Observer
	retries  prometheus.Counter
	cut      prometheus.Counter
	errors   prometheus.Counter
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	labels := []string{"app", "service"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "slipway_router_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests: counter("requests_total", "Requests answered, by class of status.", "app", "service", "class"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "slipway_router_request_seconds",
			Help:    "Time from the head of a request to the end of its response.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, labels),
		retries: counter("retries_total", "Requests sent again.", labels...),
		cut:     counter("responses_cut_total", "Responses that ended before their body did.", labels...),
		errors:  counter("errors_total", "Requests that the router itself answered with 502, 503 or 504.", labels...),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "slipway_router_in_flight",
			Help: "Requests and upgraded connections in flight.",
		}, labels),
		routes: make(map[api.ServiceKey]*routeMetrics),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.retries, m.cut, m.errors, m.inFlight} {
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
	rm := &routeMetrics{
		duration: m.duration.WithLabelValues(app, service),
		retries:  m.retries.WithLabelValues(app, service),
		cut:      m.cut.WithLabelValues(app, service),
		errors:   m.errors.WithLabelValues(app, service),
		inFlight: m.inFlight.WithLabelValues(app, service),
	}
	for class := 1; class < len(rm.classes); class++ {
		rm.classes[class] = m.requests.WithLabelValues(app, service, strconv.Itoa(class)+"xx")
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
		m.inFlight.DeletePartialMatch(labels)
	}
}

// record counts a request that has ended.
func (r *Router) record(f *flight, start time.Time) {
	if class := f.status / 100; class > 0 && class < len(f.route.metrics.classes) {
		f.route.metrics.classes[class].Inc()
	}
	if f.status != 101 { // an upgraded connection says nothing about speed
		f.route.metrics.duration.Observe(time.Since(start).Seconds())
	}
}

// inFlight reports the requests in flight of every process, when it is asked.
type inFlight struct{ router *Router }

var inFlightDesc = prometheus.NewDesc("slipway_router_process_in_flight",
	"Requests and upgraded connections in flight, by process.", []string{"process"}, nil)

// Describe implements prometheus.Collector.
func (inFlight) Describe(ch chan<- *prometheus.Desc) { ch <- inFlightDesc }

// Collect implements prometheus.Collector.
func (c inFlight) Collect(ch chan<- prometheus.Metric) {
	sums := make(map[api.ProcessID]int)
	for id, tg := range c.router.table.Load().targets {
		sums[id.process] += tg.inFlight()
	}
	for _, d := range c.router.draining() {
		sums[d.Process] += d.InFlight
	}
	for process, n := range sums {
		ch <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(n), string(process))
	}
}
