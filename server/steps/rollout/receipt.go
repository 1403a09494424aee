package rollout

import (
	"slices"

	"slipway/api"
)

// receipt collects the proof of a deployment from the records of its processes.
func (p *pass) receipt(d *api.Deployment) *api.Receipt {
	r := &api.Receipt{Verified: d.Status == api.DeploySucceeded, Took: p.in.Now.Sub(d.Created)}
	routers := p.routers()
	names := p.services(d.Release)
	if old, ok := p.v.Release(d.Previous); ok {
		for i := range old.Services {
			names = append(names, old.Services[i].Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		s := p.serviceReceipt(d, name, routers)
		s.MoreStarted, s.MoreStopped = shorten(&s.Started, len(names)), shorten(&s.Stopped, len(names))
		r.Verified = r.Verified && s.Ready >= s.Count
		r.Services = append(r.Services, s)
	}
	return r
}

// shorten keeps the part that one of some services has of a receipt, half of it for those that
// started and half for those that stopped, and returns how many it leaves out.
func shorten(list *[]api.ProcessReceipt, services int) (more int) {
	keep := min(len(*list), max(1, api.ReceiptMax/2/services))
	more = len(*list) - keep
	*list = (*list)[:keep:keep]
	return more
}

func (p *pass) serviceReceipt(d *api.Deployment, name api.ServiceName, routers int) api.ServiceReceipt {
	s := api.ServiceReceipt{Service: name}
	key := api.ServiceKey{App: p.app.Name, Service: name}
	spec, ok := p.v.Spec(d.Release, name)
	if ok {
		svc, known := p.v.Service(key)
		if !known {
			svc = &api.Service{Key: key}
		}
		s.Count = p.scale(svc, spec)
		if !spec.Routed() {
			routers = 0
		}
	}
	for q := range p.v.ProcessesOf(key) {
		if q.Kind != api.KindService {
			continue
		}
		switch {
		case q.Release == d.Release && !q.Created.Before(d.Created):
			s.Started = append(s.Started, proof(q, routers))
		case !q.DrainSince.IsZero() && !q.DrainSince.Before(d.Created):
			s.Stopped = append(s.Stopped, proof(q, 0))
		}
		if q.Live() && q.Ready && q.Release == d.Release {
			s.Ready++
		}
	}
	return s
}

func proof(q *api.Process, routers int) api.ProcessReceipt {
	o := q.Observed
	pr := api.ProcessReceipt{
		Process: q.ID, Node: q.Node, Created: q.Created, Started: o.Started, Healthy: o.Healthy,
		Ready: q.ReadyAt, Drained: q.DrainedAt, Finished: o.Finished, Forced: q.Forced,
	}
	if q.Ready {
		pr.Routers = routers
	}
	return pr
}

// routers counts the routers that a ready process was acknowledged by.
func (p *pass) routers() int {
	n := 0
	for node := range p.v.Nodes() {
		if node.Router && node.Status == api.NodeReady {
			n++
		}
	}
	return n
}
