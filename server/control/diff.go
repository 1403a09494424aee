package control

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"slipway/api"
	"slipway/api/pb"
)

// The kinds of change in a diff.
const (
	changeAdd    = "add"
	changeChange = "change"
	changeRemove = "remove"
)

// DiffReleases tells what differs between two releases of an app: by default, what promoting
// the newest would change. Values of the environment are shown on request only.
func (s *Server) DiffReleases(ctx context.Context, r *pb.DiffReleasesRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	to, err := findRelease(v, a, r.GetTo())
	if err != nil {
		return nil, pb.Error(err)
	}
	from := &api.Release{App: a.Name} // before the first promotion, everything is new
	if ref := r.GetFrom(); ref != "" || a.Release != "" {
		if ref == "" {
			ref = string(a.Release)
		}
		if from, err = findRelease(v, a, ref); err != nil {
			return nil, pb.Error(err)
		}
	}
	diff := api.ReleaseDiff{
		From: from.ID, To: to.ID, Builds: [2]api.BuildID{from.Build, to.Build},
		Services: diffServices(from.Services, to.Services),
		Manifest: unified(from.Manifest, to.Manifest),
	}
	before, err := s.releaseEnv(from)
	if err != nil {
		return nil, pb.Error(err)
	}
	after, err := s.releaseEnv(to)
	if err != nil {
		return nil, pb.Error(err)
	}
	diff.Env = diffValues(before, after, r.GetReveal())
	return doc(diff, nil)
}

// diffValues lists what differs between two maps: added, changed, removed, each in order of
// name.
func diffValues(from, to map[string]string, reveal bool) []api.ValueDiff {
	all := maps.Clone(from)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, to)
	byChange := map[string][]api.ValueDiff{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		before, was := from[name]
		after, is := to[name]
		d := api.ValueDiff{Name: name, Change: changeChange}
		switch {
		case !was:
			d.Change = changeAdd
		case !is:
			d.Change = changeRemove
		case before == after:
			continue
		}
		if reveal {
			d.From, d.To = before, after
		}
		byChange[d.Change] = append(byChange[d.Change], d)
	}
	return slices.Concat([]api.ValueDiff{}, byChange[changeAdd], byChange[changeChange], byChange[changeRemove])
}

// diffServices compares services field by field, in their JSON form.
func diffServices(from, to []api.ServiceSpec) []api.ServiceDiff {
	before, after := fieldsByService(from), fieldsByService(to)
	out := []api.ServiceDiff{}
	for _, spec := range to {
		old, was := before[spec.Name]
		if !was {
			out = append(out, api.ServiceDiff{Service: spec.Name, Change: changeAdd})
			continue
		}
		if fields := diffValues(old, after[spec.Name], true); len(fields) > 0 {
			out = append(out, api.ServiceDiff{Service: spec.Name, Change: changeChange, Fields: fields})
		}
	}
	for _, spec := range from {
		if _, is := after[spec.Name]; !is {
			out = append(out, api.ServiceDiff{Service: spec.Name, Change: changeRemove})
		}
	}
	return out
}

// fieldsByService flattens services to "scale.count" → "2".
func fieldsByService(specs []api.ServiceSpec) map[api.ServiceName]map[string]string {
	out := map[api.ServiceName]map[string]string{}
	for i := range specs {
		fields := map[string]string{}
		var tree map[string]json.RawMessage
		if err := json.Unmarshal(pb.Marshal(specs[i]), &tree); err == nil {
			flatten("", tree, fields)
		}
		out[specs[i].Name] = fields
	}
	return out
}

func flatten(prefix string, tree map[string]json.RawMessage, into map[string]string) {
	for name, value := range tree {
		var deeper map[string]json.RawMessage
		if err := json.Unmarshal(value, &deeper); err == nil && deeper != nil {
			flatten(prefix+name+".", deeper, into)
			continue
		}
		into[prefix+name] = string(value)
	}
}
