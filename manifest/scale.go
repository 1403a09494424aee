package manifest

import (
	"slices"
	"strings"

	"slipway/api"
)

// autoscaleMax is the most copies of an autoscaled service that does not say.
const autoscaleMax = 10

// scale reads a count, a range or the map of both and what each copy asks for.
func (l *loader) scale(spec *api.ServiceSpec, n *node) {
	s, d := n.get("scale"), l.rules.defaults()
	low, high := l.count(spec, s)

	gpu := s.get("gpu")
	gpus := gpu.get("count").number(gpu.number(0))
	// What is not said is what the limit says; a service with a GPU asks for nothing else.
	cpu, memory := s.get("limit", "cpu").number(d.cpu), s.get("limit", "memory").number(512)
	if gpus > 0 {
		cpu, memory = 0, 0
	}
	spec.Scale = api.Scale{
		Count: low, Min: low, Max: high,
		Ask: api.Amount{
			CPU:    milli(s.get("cpu").number(cpu), d.core),
			Memory: megabytes(s.get("memory").number(memory)),
		},
		CPULimit:    milli(s.get("limit", "cpu").number(0), d.core),
		MemoryLimit: megabytes(s.get("limit", "memory").number(0)),
	}
	if gpus > 0 {
		spec.Devices = append(spec.Devices, api.DeviceAsk{Kind: "gpu", Vendor: gpu.get("vendor").string("nvidia"), Count: gpus})
	}
	l.checkScale(spec, s)
}

// count reads how many copies there may be. The keys min and max of v3 win over count.
func (l *loader) count(spec *api.ServiceSpec, s *node) (low, high int) {
	low, high = 1, 1
	count := s
	if s.is(table) {
		count = s.get("count")
	}
	if count.is(scalar) {
		if a, b, ok := parseRange(count.text); ok {
			low, high = a, b
		}
	} else if count.is(table) {
		low = count.get("min").number(1)
		high = count.get("max").number(max(1, low))
	}
	// A maximum alone is the count, unless something scales.
	if most := s.get("max"); most != nil && s.get("min") == nil && s.get("count") == nil && s.get("autoscale") == nil && s.get("keda") == nil {
		low = most.number(low)
	}
	single := low == high
	low = s.get("min").number(low)
	if single {
		high = max(low, high)
		if s.get("autoscale") != nil || s.get("keda") != nil {
			high = max(low, autoscaleMax)
		}
		if s.get("count") == nil && s.get("autoscale") == nil && s.get("keda") == nil && s.get("max") == nil {
			high = low
		}
	}
	high = s.get("max").number(high)
	if high < low {
		l.problem(count.or(s), "service %s: scale.max must be >= scale.min", spec.Name)
	}
	return low, high
}

// or returns n, or other if n is not there.
func (n *node) or(other *node) *node {
	if n == nil {
		return other
	}
	return n
}

func (l *loader) checkScale(spec *api.ServiceSpec, s *node) {
	scale, limit := spec.Scale, s.get("limit")
	if vpa := s.get("vpa"); vpa.is(table) {
		if vpa.get("updateMode") == nil {
			l.problem(vpa, "service %s: scale.vpa has no updateMode", spec.Name).hint("add updateMode: Off, Initial or Recreate")
		}
		if vpa.get("cpuOnly").flag(false) && vpa.get("memOnly").flag(false) {
			l.problem(vpa, "service %s: scale.vpa can not have both cpuOnly and memOnly", spec.Name).hint("remove one of them")
		}
	}
	if scale.CPULimit != 0 && scale.CPULimit < scale.Ask.CPU {
		l.problem(limit.get("cpu"), "cpu limit can not be less cpu request").hint("raise scale.limit.cpu or lower scale.cpu")
	}
	if scale.MemoryLimit != 0 && scale.MemoryLimit < scale.Ask.Memory {
		l.problem(limit.get("memory"), "memory limit can not be less memory request").hint("raise scale.limit.memory or lower scale.memory")
	}

	auto := s.get("autoscale")
	if auto == nil {
		if scale.Max > scale.Min {
			// The lower end acts: the upper one is what nothing leads to yet.
			path := s.get("count").or(s).path + ".max"
			if most := s.get("max"); most != nil {
				path = most.path
			}
			l.notActing(path)
		}
		return
	}
	if spec.Agent {
		l.warn(auto, "service %s: scale.autoscale is ignored, an agent runs once per node", spec.Name)
		return
	}
	if scale.Max <= scale.Min {
		l.problem(auto, "service %s: scale.max must be > scale.min with scale.autoscale", spec.Name)
	}
	for _, item := range auto.get("custom").elements() {
		switch name := item.get("name"); {
		case strings.HasPrefix(strings.ToLower(name.string("")), "convox-"):
			l.problem(name, "service %s: the name of a custom trigger can not begin with convox-", spec.Name).hint("choose another name")
		case name != nil && !nameRule.MatchString(name.text):
			l.problem(name, "service %s: the name of a custom trigger must contain only lowercase alphanumeric and dashes%s", spec.Name, got(name))
		}
	}
	if auto.get("gpuUtilization") != nil && len(spec.Devices) == 0 {
		l.problem(auto, "service %s: scale.autoscale.gpuUtilization needs scale.gpu of at least 1", spec.Name)
	}
	if scale.Min == 0 && !l.wakes(s) {
		l.problem(auto, "service %s: scale.min can not be 0 with only cpu, memory or cron to scale by: no copy means no load, and none would ever start", spec.Name).
			hint("raise scale.min to 1, or scale by queueDepth")
	}
}

// wakes reports whether a service without a copy has something to scale by, and checks the
// triggers of its own.
func (l *loader) wakes(s *node) bool {
	auto := s.get("autoscale")
	wakes := auto.get("queueDepth") != nil || auto.get("gpuUtilization") != nil || s.get("keda") != nil
	for _, item := range auto.get("custom").elements() {
		wakes = wakes || !slices.Contains([]string{"cpu", "memory", "cron"}, strings.ToLower(item.get("type").string("")))
	}
	return wakes
}

// milli converts cpu in parts of a core to thousandths.
func milli(n, core int) api.MilliCPU { return api.MilliCPU(n * 1000 / core) }

func megabytes(n int) api.Bytes { return api.Bytes(n) * api.MiB }
