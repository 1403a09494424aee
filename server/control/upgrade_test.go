package control

import (
	"strings"
	"testing"

	"slipway/api"
)

func TestPlanOfAnUpgrade(t *testing.T) {
	at := func(name, version string, newest uint32) api.Server {
		return api.Server{ID: "id-" + name, Name: name, Version: version, Status: "alive", Voter: true, Formats: api.Formats{Oldest: 1, Newest: newest}}
	}
	node := func(name, version string) api.Node { return api.Node{Name: name, Version: version} }
	silent, joining := at("s3", "v1", 2), at("s3", "v1", 2)
	silent.Status, joining.Voter = "silent", false
	old := []api.Server{at("s1", "v1", 2), at("s2", "v1", 2), at("s3", "v1", 2)}
	mixed := []api.Server{at("s1", "v2", 3), at("s2", "v1", 2), at("s3", "v1", 2)}
	all := []api.Server{at("s1", "v2", 3), at("s2", "v2", 3), at("s3", "v2", 3)}
	for _, c := range []struct {
		name    string
		servers []api.Server
		nodes   []api.Node
		format  uint32
		next    string // "" for nothing
		wait    string
		finish  string // part of the error, "" for none
	}{
		{"nothing to do", old, []api.Node{node("n1", "v1")}, 2, "", "", "no upgrade to finish"},
		{"one server is new", mixed, []api.Node{node("n1", "v1")}, 2, "servers that are left, the one that leads last: s2 (v1), s3 (v1)", "", "cannot be finished yet; upgrade the servers"},
		{"all servers are new", all, []api.Node{node("n1", "v2"), node("n2", "v1")}, 2, "nodes that are left the version of the servers: n2 (v1)", "", ""},
		{"everything is new", all, []api.Node{node("n1", "v2")}, 2, "slipway rack upgrade --finish", "", ""},
		{"finished", all, []api.Node{node("n1", "v2")}, 3, "", "", "no upgrade to finish"},
		{"a patch release", []api.Server{at("s1", "v1.1", 2), at("s2", "v1", 2)}, nil, 2, "same version: s2 runs v1; s1 runs v1.1", "", "give all servers the same version"},
		{"a silent server", []api.Server{at("s1", "v1", 2), at("s2", "v1", 2), silent}, nil, 2, "", "server s3 is silent", "server s3 is silent"},
		{"a server that joins", []api.Server{at("s1", "v1", 2), joining}, nil, 2, "", "s3 has no vote yet", "s3 has no vote yet"},
		{"a server that does not say", []api.Server{at("s1", "v2", 3), {Name: "s2", Status: "alive", Voter: true}}, nil, 2, "s2 ()", "", "cannot be finished yet"},
	} {
		u := planUpgrade(c.format, c.servers, c.nodes)
		if (c.next == "") != (u.Next == "") || !strings.Contains(u.Next, c.next) {
			t.Errorf("%s: next %q, want %q", c.name, u.Next, c.next)
		}
		if wait := strings.Join(u.Wait, "; "); (c.wait == "") != (wait == "") || !strings.Contains(wait, c.wait) {
			t.Errorf("%s: wait %q, want %q", c.name, wait, c.wait)
		}
		err := finishable(u)
		if (c.finish == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.finish) {
			t.Errorf("%s: finish: %v, want %q", c.name, err, c.finish)
		}
	}
}
