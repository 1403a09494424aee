package state

import (
	"fmt"
	"math"
	"time"

	"slipway/api"
)

// change is one entry being applied: the new view in the making, and what it changed.
type change struct {
	View
	at    time.Time
	actor string
	res   Result
}

// event records something for people.
func (c *change) event(kind string, app api.AppName, object, message string) {
	c.res.Events = append(c.res.Events, api.Event{
		Index: c.index, At: c.at, Type: kind, App: app, Object: object, Actor: c.actor, Message: message,
	})
}

func (c *change) putApp(a api.App) {
	c.apps = put(c.apps, string(a.Name), &a)
	c.res.Changes.app(a.Name)
}

func (c *change) putBuild(b api.Build) {
	c.builds = put(c.builds, string(b.ID), &b)
	c.buildsOf = put(c.buildsOf, newestFirst(b.App, b.Created, string(b.ID)), string(b.ID))
	c.buildsOpen = set(c.buildsOpen, !b.Status.Ended(), string(b.ID), string(b.ID))
	c.res.Changes.build(b.ID)
}

func (c *change) putRelease(r api.Release) {
	c.releases = put(c.releases, string(r.ID), &r)
	c.releasesOf = put(c.releasesOf, releaseKey(&r), string(r.ID))
	c.res.Changes.app(r.App)
}

func releaseKey(r *api.Release) string {
	return fmt.Sprintf("%s\x00%010d", r.App, math.MaxInt32-r.Number)
}

func (c *change) putDeployment(d api.Deployment) {
	c.deployments = put(c.deployments, string(d.ID), &d)
	c.deploymentsOf = put(c.deploymentsOf, newestFirst(d.App, d.Created, string(d.ID)), string(d.ID))
	c.deploysOpen = set(c.deploysOpen, !d.Status.Ended(), string(d.ID), string(d.ID))
	c.res.Changes.app(d.App)
}

func (c *change) putService(s api.Service) {
	c.services = put(c.services, s.Key.String(), &s)
	c.res.Changes.service(s.Key)
}

func (c *change) putNode(n api.Node) {
	c.nodes = put(c.nodes, string(n.ID), &n)
	c.res.Changes.node(n.ID)
}

func (c *change) putPool(p api.Pool) {
	c.pools = put(c.pools, string(p.Name), &p)
	c.res.Changes.All = true // the order of all nodes of the pool may have changed
}

// putProcess stores a process and keeps every index and the reserved amounts right.
func (c *change) putProcess(p api.Process) {
	id := string(p.ID)
	if old, ok := c.Process(p.ID); ok {
		c.reserve(old, -1)
		if old.Node != p.Node {
			c.liveOn = drop(c.liveOn, string(old.Node)+"\x00"+id)
		}
	}
	c.processes = put(c.processes, id, &p)
	c.indexProcess(&p)
	c.res.Changes.process(&p)
}

// indexProcess enters a process into the indexes.
func (c *change) indexProcess(p *api.Process) {
	id, live := string(p.ID), p.Live()
	c.processesOf = put(c.processesOf, p.Key().String()+"\x00"+id, id)
	c.live = set(c.live, live, id, id)
	c.pending = set(c.pending, live && p.Node == "", id, id)
	c.liveOn = set(c.liveOn, live && p.Node != "", string(p.Node)+"\x00"+id, id)
	c.reserve(p, 1)
}

// reserve adds (sign 1) or takes back (sign -1) what a live process holds of its node.
func (c *change) reserve(p *api.Process, sign int) {
	if !p.Live() || p.Node == "" {
		return
	}
	used := c.Used(p.Node)
	if sign > 0 {
		used = used.Add(p.Ask, p.Grant)
	} else {
		used = used.Sub(p.Ask, p.Grant)
	}
	if used.Empty() {
		c.used = drop(c.used, string(p.Node))
		return
	}
	c.used = put(c.used, string(p.Node), &used)
}

// dropProcess removes an ended process.
func (c *change) dropProcess(p *api.Process) {
	id := string(p.ID)
	c.processes = drop(c.processes, id)
	c.processesOf = drop(c.processesOf, p.Key().String()+"\x00"+id)
	c.res.Changes.process(p)
}

func (c *change) putToken(t Token) {
	if old, ok := c.Token(t.ID); ok {
		c.tokenByHash = drop(c.tokenByHash, string(old.Hash))
	}
	c.tokens = put(c.tokens, t.ID, &t)
	c.tokenByHash = put(c.tokenByHash, string(t.Hash), t.ID)
}
