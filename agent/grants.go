package agent

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"slipway/api"
)

// grants are the ports and devices of the node that belong to one process at a time. The servers
// see to that as well; but a process that they have given up may still be ending here.
type grants struct {
	devices []api.Device // of the node

	mu   sync.Mutex
	held map[string]api.ProcessID // by name of port or device
}

func newGrants(devices []api.Device) *grants {
	return &grants{devices: devices, held: map[string]api.ProcessID{}}
}

// claim takes all that is granted to a process, or nothing. What it holds already is no conflict.
func (g *grants) claim(id api.ProcessID, grant *api.Grant) error {
	if grant == nil {
		return nil
	}
	for _, d := range grant.Devices {
		if !slices.ContainsFunc(g.devices, func(have api.Device) bool { return slices.Contains(have.Instances, d) }) {
			return api.Errorf(api.CodeNotFound, "device %s is not one of the node, which has %s; if it was taken out, start the agent again, so that nothing is placed for it", d, g.inventory())
		}
	}
	for _, p := range grant.HostPorts {
		if p.Host < 1 || p.Host > 65535 || p.Port < 1 || p.Port > 65535 || p.Protocol != api.TCP && p.Protocol != api.UDP {
			return api.Errorf(api.CodeInvalid, "%s cannot lead to port %d: ports are numbers from 1 to 65535 of tcp or udp", p.Name(), p.Port)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range namesIn(grant) {
		if other, taken := g.held[name]; taken && other != id {
			return api.Errorf(api.CodeConflict, "%s belongs to process %s of this node, which has not ended", name, other)
		}
	}
	g.hold(id, grant)
	return nil
}

// adopt takes what a process has that a former agent started.
func (g *grants) adopt(id api.ProcessID, grant *api.Grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold(id, grant)
}

// hold notes a holder. The caller has the lock.
func (g *grants) hold(id api.ProcessID, grant *api.Grant) {
	for _, name := range namesIn(grant) {
		g.held[name] = id
	}
}

// release gives back what a process holds.
func (g *grants) release(id api.ProcessID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.held, func(_ string, holder api.ProcessID) bool { return holder == id })
}

// namesIn names what a grant is for.
func namesIn(grant *api.Grant) []string {
	if grant == nil {
		return nil
	}
	var out []string
	for _, p := range grant.HostPorts {
		out = append(out, p.Name())
	}
	for _, d := range grant.Devices {
		out = append(out, "device "+d)
	}
	return out
}

// inventory names the devices of the node for an error.
func (g *grants) inventory() string {
	var all []string
	for _, d := range g.devices {
		all = append(all, d.Instances...)
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
