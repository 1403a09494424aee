package manifest

import (
	"strings"
	"time"

	"slipway/api"
)

// probes reads the health check and the probes of v3.
func (l *loader) probes(spec *api.ServiceSpec, n *node) {
	health := n.get("health")
	interval := health.get("interval").number(5)
	spec.Health = api.Health{
		Disabled: health.get("disable").flag(false),
		TCP:      health.get("tcp").flag(false),
		Path:     health.get("path").string(health.string("/")),
		Port:     l.probePort(health.get("port")),
		Grace:    health.get("grace").seconds(interval),
		Interval: api.Seconds(interval),
		Timeout:  health.get("timeout").seconds(max(1, interval-1)),
	}

	base := api.Probe{
		Grace: 10 * time.Second, Interval: 5 * time.Second, Timeout: 5 * time.Second,
		SuccessThreshold: 1, FailureThreshold: 3,
	}
	if p := n.get("liveness"); p.is(table) {
		spec.Liveness = l.probe(p, base)
		if p.get("path") == nil {
			l.problem(p, "service %s liveness has no path", spec.Name).hint("add path: /")
		}
	}
	if p := n.get("startupProbe"); p.is(table) {
		spec.Startup = l.probe(p, startupBase(spec, base))
		if p.get("path") == nil && !spec.Startup.TCP {
			l.problem(p, "service %s startupProbe has neither path nor tcpSocketPort", spec.Name).hint("add one of them")
		}
	} else if len(spec.Devices) > 0 && spec.Port.Number != 0 {
		probe := startupBase(spec, base)
		probe.TCP, probe.Port = true, spec.Port.Number
		spec.Startup = &probe
	}
}

// probePort reads 9000, https:9000 or the map of both.
func (l *loader) probePort(n *node) int {
	text := n.get("port").string(n.string("0"))
	_, number, withScheme := strings.Cut(text, ":")
	if !withScheme {
		number = text
	} else if n.is(scalar) {
		l.notActing(n.path)
	}
	port, _ := parsePort(number)
	return port
}

// startupBase returns the timings that a startup probe falls back to: those of the liveness
// probe, or half an hour for services with a GPU, whose models take long to load.
func startupBase(spec *api.ServiceSpec, base api.Probe) api.Probe {
	switch {
	case spec.Liveness != nil:
		base = *spec.Liveness
	case len(spec.Devices) > 0:
		base.Grace, base.Interval, base.FailureThreshold = 300*time.Second, 10*time.Second, 180
	}
	base.Path, base.Port = "", 0
	return base
}

func (l *loader) probe(n *node, base api.Probe) *api.Probe {
	socket := n.get("tcpSocketPort").number(0)
	port := l.probePort(n.get("port"))
	if port == 0 {
		port = socket
	}
	return &api.Probe{
		Path:             n.get("path").string(""),
		TCP:              socket != 0 && n.get("path") == nil,
		Port:             port,
		Grace:            n.get("grace").seconds(int(base.Grace / time.Second)),
		Interval:         n.get("interval").seconds(int(base.Interval / time.Second)),
		Timeout:          n.get("timeout").seconds(int(base.Timeout / time.Second)),
		SuccessThreshold: n.get("successThreshold").number(base.SuccessThreshold),
		FailureThreshold: n.get("failureThreshold").number(base.FailureThreshold),
	}
}
