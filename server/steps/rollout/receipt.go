package rollout

import (
	"slipway/api"
)

// receipt collects the proof of a deployment from the records of its processes.
func (p *pass) receipt(d *api.Deployment) *api.Receipt {
	r := &api.Receipt{Verified: d.Status == api.DeploySucceeded, Took: p.in.Now.Sub(d.Created)}
	routers := p.routers()
	for _, name := range p.services(d.Release) {
		s := api.ServiceReceipt{Service: name}
		for q := range p.v.ProcessesOf(api.ServiceKey{App: p.app.Name, Service: name}) {
			if q.Kind != api.KindService {
				continue
			}
			switch {
			case q.Release == d.Release && !q.Created.Before(d.Created):
				s.Started = append(s.Started, proof(q, routers))
			case q.DrainSince.After(d.Created):
				s.Stopped = append(s.Stopped, proof(q, 0))
			}
			if q.Live() && q.Ready && q.Release == d.Release {
				s.Ready++
			}
		}
		if spec, ok := p.v.Spec(d.Release, name); ok {
			svc, _ := p.v.Service(api.ServiceKey{App: p.app.Name, Service: name})
			if s.Count = spec.Scale.Count; svc != nil {
				s.Count = svc.Override.Apply(spec.Scale).Count
			}
			if spec.Agent {
				s.Count = p.eligible()
			}
		}
		r.Verified = r.Verified && s.Ready >= s.Count
		r.Services = append(r.Services, s)
	}
	return r
}

func proof(q *api.Process, routers int) api.ProcessReceipt {
	o := q.Observed
	pr := api.ProcessReceipt{
		Process: q.ID, Node: q.Node, Created: q.Created, Started: o.Started, Healthy: o.Healthy,
		Drained: q.DrainedAt, Finished: o.Finished, Forced: q.Forced,
	}
	if q.Ready {
		pr.Ready, pr.Routers = q.ReadyAt, routers
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
