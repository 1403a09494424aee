package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"slipway/api"
	"slipway/raftstore/state"
)

// service is the one service of every app.
const service = api.ServiceName("web")

// ops lists what can be called on each kind of object; the more often, the more likely.
func ops() map[string][]string {
	return map[string][]string{
		"label":  {"set", "set", "get", "get"},
		"scale":  {"set", "set", "get", "get"},
		"app":    {"create", "create", "release", "release", "release", "release", "lock", "unlock", "delete", "reap", "get", "get", "get", "get"},
		"deploy": {"promote", "promote", "cancel", "end", "end", "get", "get", "get"},
	}
}

// draw makes up a call. unique is a number that no other call has, promoted the deployments of
// the object that are known to exist.
func draw(r *rand.Rand, key string, unique int, promoted []string) input {
	kind := kindOf(key)
	in := input{key: key, op: pick(r, ops()[kind])}
	switch {
	case kind == "scale" && in.op == "set":
		in.arg = strconv.Itoa(r.IntN(200) - 1) // some are scaleInvalid
	case kind == "label" && in.op == "set":
		in.arg = fmt.Sprint("v", unique)
	case in.op == "release":
		in.arg = fmt.Sprint("R", unique)
	case in.op == "promote":
		in.arg = fmt.Sprintf("D%d %s", unique, releaseOf(key, r.IntN(2)))
	case in.op == "end":
		if len(promoted) == 0 {
			in.op = "get"
			break
		}
		in.arg = promoted[max(0, len(promoted)-1-r.IntN(2))]
	}
	return in
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func releaseOf(key string, n int) string { return fmt.Sprintf("%s-r%d", key, n) }

// prepare lists the commands that an object needs before it can be called.
func prepare(key string) []state.Command {
	switch kindOf(key) {
	case "label":
		return []state.Command{state.RegisterNode{Node: api.Node{
			ID: api.NodeID(key), Name: key, Addr: "10.0.0.1", BootID: "1", Capacity: api.Amount{CPU: 1000, Memory: api.GiB},
		}}}
	case "scale", "deploy":
		out := []state.Command{state.CreateApp{App: api.App{Name: api.AppName(key)}}}
		for n := range 2 {
			out = append(out, state.CreateRelease{Release: api.Release{
				ID: api.ReleaseID(releaseOf(key, n)), App: api.AppName(key), Services: []api.ServiceSpec{{Name: service}},
			}})
		}
		return out
	}
	return nil
}

// command is what a writing call proposes; nil for a read.
func command(in input) state.Command {
	name := api.AppName(in.key)
	switch in.op {
	case "get":
		return nil
	case "set":
		if kindOf(in.key) == "label" {
			return state.UpdateNode{Node: api.NodeID(in.key), Labels: map[string]string{"chaos": in.arg}}
		}
		count, _ := strconv.Atoi(in.arg) // draw wrote it
		return state.SetScale{Key: api.ServiceKey{App: name, Service: service}, Override: &api.ScaleOverride{Count: &count}}
	case "create":
		return state.CreateApp{App: api.App{Name: name}}
	case "delete":
		return state.DeleteApp{App: name}
	case "lock", "unlock":
		return state.LockApp{App: name, Locked: in.op == "lock"}
	case "reap":
		return state.Reap{Apps: []api.AppName{name}}
	case "release":
		return state.CreateRelease{Release: api.Release{ID: api.ReleaseID(in.arg), App: name}}
	case "promote":
		id, release, _ := strings.Cut(in.arg, " ")
		return state.CreateDeployment{Deployment: api.Deployment{ID: api.DeploymentID(id), App: name, Release: api.ReleaseID(release)}}
	case "cancel":
		return state.CancelDeployment{App: name}
	case "end":
		return state.UpdateDeployment{Deployment: api.Deployment{
			ID: api.DeploymentID(in.arg), Status: api.DeploySucceeded, Receipt: &api.Receipt{Verified: true},
		}}
	}
	panic(in.op)
}

// look reads an object as its spec shows it.
func look(v *state.View, key string) string {
	switch kindOf(key) {
	case "label":
		if n, ok := v.Node(api.NodeID(key)); ok {
			return n.Labels["chaos"]
		}
		return "the node is gone"
	case "scale":
		s, ok := v.Service(api.ServiceKey{App: api.AppName(key), Service: service})
		if !ok || s.Override == nil {
			return ""
		}
		return strconv.Itoa(*s.Override.Count)
	case "app":
		a, ok := v.App(api.AppName(key))
		if !ok {
			return app{}.String()
		}
		var ids []string
		for r := range v.Releases(a.Name) {
			if r.Number != a.NextRelease-1-len(ids) {
				return fmt.Sprintf("release %s has number %d, %d are newer and the next is %d", r.ID, r.Number, len(ids), a.NextRelease)
			}
			ids = append(ids, string(r.ID))
		}
		slices.Reverse(ids)
		return app{exists: true, locked: a.Locked, deleting: a.Deleting, releases: strings.Join(ids, " ")}.String()
	case "deploy":
		a, ok := v.App(api.AppName(key))
		if !ok {
			return "the app is gone"
		}
		d, ok := v.Deployment(a.Deployment)
		if !ok {
			d = &api.Deployment{}
		}
		return deploy{
			current: string(d.ID), release: string(d.Release), active: string(a.Release),
			open: d.Status == api.DeployRunning, cancel: d.Cancel,
		}.String()
	}
	panic(key)
}

// keys names the objects of one era; each era has its own, so that no history grows too long
// to be checked.
func keys(era int) []string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(ops())) {
		for n := range 2 {
			out = append(out, fmt.Sprintf("%s-%d-%d", kind, era, n))
		}
	}
	return out
}
