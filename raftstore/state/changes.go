package state

import (
	"maps"

	"slipway/api"
)

// Changes is the set of keys that changed between two views. Steps get it so that their cost
// follows the change and not the size of the rack. It never carries decisions: a step that
// looks at more than the changed keys is slower, not wrong.
type Changes struct {
	// All means that everything may have changed, as right after an election.
	All       bool
	Apps      map[api.AppName]bool
	Services  map[api.ServiceKey]bool // also when one of their processes changed
	Processes map[api.ProcessID]bool
	Nodes     map[api.NodeID]bool
	Builds    map[api.BuildID]bool
	Routes    map[api.AppName]bool
	Usage     map[api.NodeID]bool // nodes whose processes hold more or less than before
	// Assigned are the nodes that have another set of processes than before, or shall do something
	// else with one of them; Named the services whose names lead elsewhere. Both are about processes
	// that are in the sets above as well.
	Assigned map[api.NodeID]bool
	Named    map[api.ServiceKey]bool
}

// Everything is the change set of a first look.
func Everything() Changes { return Changes{All: true} }

// Empty reports whether nothing changed.
func (c Changes) Empty() bool {
	return !c.All && len(c.Apps)+len(c.Services)+len(c.Processes)+len(c.Nodes)+len(c.Builds)+len(c.Routes)+len(c.Usage) == 0
}

// Merge adds the keys of d.
func (c *Changes) Merge(d Changes) {
	c.All = c.All || d.All
	merge(&c.Apps, d.Apps)
	merge(&c.Services, d.Services)
	merge(&c.Processes, d.Processes)
	merge(&c.Nodes, d.Nodes)
	merge(&c.Builds, d.Builds)
	merge(&c.Routes, d.Routes)
	merge(&c.Usage, d.Usage)
	merge(&c.Assigned, d.Assigned)
	merge(&c.Named, d.Named)
}

func merge[K comparable](dst *map[K]bool, src map[K]bool) {
	if len(src) == 0 {
		return
	}
	if *dst == nil {
		*dst = make(map[K]bool, len(src))
	}
	maps.Copy(*dst, src)
}

func mark[K comparable](m *map[K]bool, k K) {
	if *m == nil {
		*m = map[K]bool{}
	}
	(*m)[k] = true
}

// expect makes room for many processes that get a node.
func (c *Changes) expect(processes int) {
	if c.Processes == nil && processes > 1 {
		c.Processes = make(map[api.ProcessID]bool, processes)
		c.Usage, c.Assigned = make(map[api.NodeID]bool, processes), make(map[api.NodeID]bool, processes)
	}
}

func (c *Changes) app(a api.AppName)        { mark(&c.Apps, a) }
func (c *Changes) service(k api.ServiceKey) { mark(&c.Services, k) }
func (c *Changes) node(n api.NodeID)        { mark(&c.Nodes, n) }
func (c *Changes) build(b api.BuildID)      { mark(&c.Builds, b) }
func (c *Changes) use(n api.NodeID)         { mark(&c.Usage, n) }
func (c *Changes) route(a api.AppName)      { mark(&c.Routes, a) }
func (c *Changes) process(p *api.Process) {
	mark(&c.Processes, p.ID)
	mark(&c.Services, p.Key())
	if p.Kind == api.KindBuild {
		mark(&c.Builds, p.Build)
	}
	if p.Observed.State == api.StateAssigned {
		mark(&c.Assigned, p.Node)
	}
}

// moved notes what a process is to its node and to those who look its name up.
func (c *Changes) moved(old, p *api.Process) {
	if old.Desired != p.Desired || old.Live() != p.Live() || old.Node != p.Node {
		for _, node := range []api.NodeID{old.Node, p.Node} {
			if node != "" {
				mark(&c.Assigned, node)
			}
		}
	}
	if Endpoint(old) != Endpoint(p) {
		mark(&c.Named, p.Key())
	}
}

// Endpoint is the address that the name of a process's service leads to because of it; "" while it
// is not one of those that serve.
func Endpoint(p *api.Process) string {
	if p.Kind != api.KindService || p.Desired != api.DesiredRun || p.Observed.Health != api.HealthHealthy || !p.Live() {
		return ""
	}
	return p.Observed.Addr
}
