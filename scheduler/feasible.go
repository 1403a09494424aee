package scheduler

import (
	"fmt"
	"strings"

	"slipway/api"
)

// kindOf returns what a node's class answers to the shape. An absent node gets the zero kind.
func (sh *shape) kindOf(c *Cluster, i int32) kind {
	if c.table[i].status == gone {
		return kind{}
	}
	if sh.named {
		return sh.evaluate(c.nodes[i])
	}
	class := c.table[i].class
	for int(class) >= len(sh.kinds) {
		sh.kinds = append(sh.kinds, kind{})
	}
	k := &sh.kinds[class]
	if !k.known {
		*k = sh.evaluate(c.samples[class])
	}
	return *k
}

func (sh *shape) evaluate(n *api.Node) kind {
	k := kind{known: true, why: candidate, affinity: int32(affinity(sh.spec, n) * pointsAffinity / 100), bucket: sh.bucketOf(n)}
	if n.Pool != sh.pool {
		k.why = sh.cause(refusal{isNot, "in pool " + string(sh.pool)})
		return k
	}
	for _, con := range sh.spec.Constraints {
		if value, ok := n.Attribute(con.Attribute); !con.Holds(value, ok) {
			k.why = sh.cause(refusal{doesNotHold, con.String()})
			return k
		}
	}
	return k
}

// bucketOf returns the bucket of the nodes that have the same values as n.
func (sh *shape) bucketOf(n *api.Node) int32 {
	values := make([]string, len(sh.keyed))
	for j, name := range sh.keyed {
		values[j], _ = n.Attribute(name)
	}
	key := strings.Join(values, "\x00")
	b, ok := sh.byValues[key]
	if !ok {
		b = int32(len(sh.buckets))
		sh.byValues[key] = b
		sh.buckets = append(sh.buckets, &bucket{values: values})
	}
	return b
}

// cause returns the number of a cause.
func (sh *shape) cause(r refusal) int32 {
	id, ok := sh.causeOf[r]
	if !ok {
		id = int32(len(sh.causes))
		sh.causeOf[r] = id
		sh.causes = append(sh.causes, r)
	}
	return id
}

// answer returns why a node cannot take a copy now, candidate if it can.
func (sh *shape) answer(c *Cluster, i int32, k kind) int32 {
	m := &c.table[i]
	switch {
	case m.status == gone:
		return absent
	case k.why != candidate:
		return k.why
	case m.status == down:
		return sh.cause(refusal{is, "down"})
	case m.status == draining:
		return sh.cause(refusal{is, "draining"})
	case m.status == cordoned:
		return sh.cause(refusal{is, "cordoned"})
	}
	if what := short(m.free, sh.ask); what != "" {
		return sh.cause(refusal{notEnough, what})
	}
	if len(sh.spec.Devices)+len(sh.spec.HostPorts) > 0 {
		if r := sh.withheld(c, i); r != (refusal{}) {
			return sh.cause(r)
		}
	}
	return candidate
}

// short returns which resource is too small; "" if none is.
func short(free, ask api.Amount) string {
	switch {
	case ask.Memory > free.Memory:
		return "memory"
	case ask.CPU > free.CPU:
		return "cpu"
	case ask.Disk > free.Disk:
		return "disk"
	}
	return ""
}

// withheld returns which device or port of a node a copy could not have.
func (sh *shape) withheld(c *Cluster, i int32) refusal {
	_, r := grant(sh.spec, c.nodes[i], api.Usage{Grant: c.held[i]}, 0)
	return r
}

// grant picks devices and ports of a node for a copy; nil if it asks for none. salt is where the
// choice among dynamic ports begins, so that a port is not given again at once.
func grant(spec *api.ServiceSpec, n *api.Node, held api.Usage, salt int) (*api.Grant, refusal) {
	if len(spec.Devices)+len(spec.HostPorts) == 0 {
		return nil, refusal{}
	}
	g := &api.Grant{}
	for i := range spec.Devices {
		if r := addDevices(&spec.Devices[i], n, &held, g); r != (refusal{}) {
			return nil, r
		}
	}
	for _, p := range spec.HostPorts { // the fixed ones first: a dynamic one must not take their place
		if p.Host == 0 {
			continue
		}
		if held.HoldsPort(p.Host, p.Protocol) {
			return nil, refusal{taken, p.Name()}
		}
		held.HostPorts = append(held.HostPorts[:len(held.HostPorts):len(held.HostPorts)], p)
	}
	for _, p := range spec.HostPorts {
		if p.Host == 0 {
			if p.Host = dynamicPort(held, p.Protocol, salt); p.Host == 0 {
				return nil, refusal{taken, "every dynamic host port"}
			}
			held.HostPorts = append(held.HostPorts[:len(held.HostPorts):len(held.HostPorts)], p)
		}
		g.HostPorts = append(g.HostPorts, p)
	}
	return g, refusal{}
}

// addDevices adds the devices of one ask to a grant and to what is held.
func addDevices(ask *api.DeviceAsk, n *api.Node, held *api.Usage, g *api.Grant) refusal {
	missing, has := ask.Count, false
	for j := range n.Devices {
		if !ask.Suits(&n.Devices[j]) {
			continue
		}
		has = true
		for _, id := range n.Devices[j].Instances {
			one := &api.Grant{Devices: []string{id}}
			if missing > 0 && held.Collides(one) == "" {
				missing--
				*held = held.Add(api.Amount{}, one)
				g.Devices = append(g.Devices, id)
			}
		}
	}
	switch {
	case missing <= 0:
		return refusal{}
	case !has:
		return refusal{hasNo, ask.String()}
	}
	return refusal{lacks, fmt.Sprintf("%d %s", ask.Count, ask)}
}

// dynamicPort returns the first free port from a point on, all the way around; 0 for none.
func dynamicPort(held api.Usage, protocol api.Protocol, salt int) int {
	const all = api.LastDynamicPort - api.FirstDynamicPort + 1
	for i := range all {
		if port := api.FirstDynamicPort + (salt+i)%all; !held.HoldsPort(port, protocol) {
			return port
		}
	}
	return 0
}
