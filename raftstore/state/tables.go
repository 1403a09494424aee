package state

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"slipway/api"
)

// change is one entry being applied: the new view in the making, and what it changed.
type change struct {
	View
	at    time.Time
	actor string
	// reason is why, in the actor's words.
	reason string
	res    Result
	// planned is the index of the state that the plan at hand was made from; 0 for no plan.
	planned uint64
	// wrote: a table is not what it was.
	wrote bool
}

// event records something for people.
func (c *change) event(kind string, app api.AppName, object, message string) {
	c.res.Events = append(c.res.Events, api.Event{
		Index: c.index, At: c.at, Type: kind, App: app, Object: object, Actor: c.actor, Message: message, Reason: c.reason,
	})
}

func (c *change) putApp(a api.App) {
	put(c, &c.apps, string(a.Name), &a)
	c.res.Changes.app(a.Name)
}

func (c *change) putBuild(b api.Build) {
	put(c, &c.builds, string(b.ID), &b)
	put(c, &c.buildsOf, newestFirst(b.App, b.Created, string(b.ID)), string(b.ID))
	set(c, &c.buildsOpen, !b.Status.Ended(), string(b.ID), string(b.ID))
	c.res.Changes.build(b.ID)
}

func (c *change) putRelease(r api.Release) {
	put(c, &c.releases, string(r.ID), &r)
	put(c, &c.releasesOf, releaseKey(&r), string(r.ID))
	c.res.Changes.app(r.App)
}

func releaseKey(r *api.Release) string {
	return fmt.Sprintf("%s\x00%010d", r.App, math.MaxInt32-r.Number)
}

func (c *change) putDeployment(d api.Deployment) {
	put(c, &c.deployments, string(d.ID), &d)
	put(c, &c.deploymentsOf, newestFirst(d.App, d.Created, string(d.ID)), string(d.ID))
	set(c, &c.deploysOpen, !d.Status.Ended(), string(d.ID), string(d.ID))
	c.res.Changes.app(d.App)
}

func (c *change) putService(s api.Service) {
	put(c, &c.services, s.Key.String(), &s)
	set(c, &c.waiting, s.Waiting != "", s.Key.String(), s.Key.String())
	agent := false
	for _, w := range s.Want {
		spec, ok := c.Spec(w.Release, s.Key.Service)
		agent = agent || ok && spec.Agent
	}
	set(c, &c.agents, agent, s.Key.String(), s.Key.String())
	c.res.Changes.service(s.Key)
}

func (c *change) putNode(n api.Node) {
	if old, ok := c.Node(n.ID); ok && old.Subnet != n.Subnet {
		c.freeSubnet(old)
	}
	if n.Subnet != "" {
		put(c, &c.subnets, n.Subnet, string(n.ID))
	}
	put(c, &c.nodes, string(n.ID), &n)
	c.res.Changes.node(n.ID)
}

// freeSubnet gives the subnet of a node back.
func (c *change) freeSubnet(n *api.Node) {
	if n.Subnet != "" {
		drop(c, &c.subnets, n.Subnet)
		c.subnetsFrom = netip.Prefix{}
	}
}

func (c *change) putPool(p api.Pool) {
	put(c, &c.pools, string(p.Name), &p)
	c.res.Changes.All = true // the order of all nodes of the pool may have changed
}

// ownProcesses returns the roster of all processes, to be written to.
func (c *change) ownProcesses() *roster {
	c.wrote, c.processes = true, c.processes.own(c.tx)
	return c.processes
}

// putProcess stores a process and keeps every index and the reserved amounts right.
func (c *change) putProcess(p api.Process) {
	old, known := c.Process(p.ID)
	if known {
		c.res.Changes.moved(old, &p)
	}
	c.ownProcesses().put(&p)
	c.list(&p)
	switch {
	case !known:
		c.reserve(&p, 1)
		c.count(&p, 1)
	case p.Live() && p.Node != "" && holds(old) == holds(&p): // as most reports of nodes
		c.ownUsage(p.Node).live.put(&p)
	default:
		c.reserve(old, -1)
		c.count(old, -1)
		c.reserve(&p, 1)
		c.count(&p, 1)
	}
	c.res.Changes.process(&p)
}

// holding is what a process has of its node and of the tallies.
type holding struct {
	live    bool
	node    api.NodeID
	ask     api.Amount
	grant   *api.Grant
	desired api.Desired
	slot    int
	release api.ReleaseID
}

func holds(p *api.Process) holding {
	return holding{p.Live(), p.Node, p.Ask, p.Grant, p.Desired, p.Slot, p.Release}
}

// indexProcess enters a process of a snapshot into the indexes.
func (c *change) indexProcess(p *api.Process) {
	c.list(p)
	c.reserve(p, 1)
	c.count(p, 1)
}

// list enters a process into the lists that it belongs to.
func (c *change) list(p *api.Process) {
	enlist(c, &c.processesOf, true, p.Key().String(), p)
	waits := p.Live() && p.Node == ""
	if _, known := c.pending.get(p.ID); known || waits {
		c.pending = c.pending.own(c.tx)
		if waits {
			c.pending.put(p)
		} else {
			c.pending.drop(p.ID)
		}
	}
}

// usage is what a node's processes hold, and which those are. The change that owns it may write
// to it.
type usage struct {
	tx uint64
	api.Usage
	live roster
}

// processes returns the roster of a node; nil for a node without.
func (u *usage) processes() *roster {
	if u == nil {
		return nil
	}
	return &u.live
}

// reserve adds (sign 1) or takes back (sign -1) a live process and what it holds of its node.
func (c *change) reserve(p *api.Process, sign int) {
	if !p.Live() || p.Node == "" {
		return
	}
	u := c.ownUsage(p.Node)
	if sign > 0 {
		u.Usage = u.Add(p.Ask, p.Grant)
		u.live.put(p)
	} else {
		u.Usage = u.Sub(p.Ask, p.Grant)
		u.live.drop(p.ID)
	}
	if u.live.count == 0 {
		drop(c, &c.used, string(p.Node))
	}
	c.res.Changes.use(p.Node)
}

// ownUsage returns what is held of a node, to be written to.
func (c *change) ownUsage(node api.NodeID) *usage {
	u, ok := c.used.get(string(node))
	switch {
	case !ok:
		u = &usage{tx: c.tx, live: roster{tx: c.tx}}
	case u.tx != c.tx:
		u = &usage{tx: c.tx, Usage: u.Usage, live: *u.live.own(c.tx)}
	default:
		return u
	}
	put(c, &c.used, string(node), u)
	return u
}

// dropProcess removes an ended process.
func (c *change) dropProcess(p *api.Process) {
	c.ownProcesses().drop(p.ID)
	enlist(c, &c.processesOf, false, p.Key().String(), p)
	c.res.Changes.process(p)
}

func (c *change) putToken(t Token) {
	if old, ok := c.Token(t.ID); ok {
		drop(c, &c.tokenByHash, string(old.Hash))
	}
	put(c, &c.tokens, t.ID, &t)
	put(c, &c.tokenByHash, string(t.Hash), t.ID)
}
