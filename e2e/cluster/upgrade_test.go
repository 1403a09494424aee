package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/client"
	"slipway/e2e/programs"
)

// nextVersion is what the programs of the next version call themselves, oldVersion the others.
const nextVersion, oldVersion = "next", "dev"

// buildNext builds the next version of the programs that run on machines: one format and one
// protocol further (raftstore/state/format_next.go).
func buildNext(t *testing.T) (dir string) {
	t.Helper()
	build(t)
	dir = filepath.Join(bin.Dir, nextVersion)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	err := programs.Build(dir, "-tags", "slipway_next", "-ldflags", "-X main.version="+nextVersion, "slipway/cmd/slipwayd", "slipway/cmd/sliplog")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestUpgrade takes a rack to its next version, in part back, and there again, machine by machine and
// under load: no request fails, and no process is touched by it.
func TestUpgrade(t *testing.T) {
	next := buildNext(t)
	r := start(t, 3, 3)
	r.deploy("shop", copies)
	r.complete("shop", copies)
	l := r.loaded("shop", 50, 25)
	l.begun(r)
	servers, nodes := r.Cluster.Servers(), r.Cluster.Nodes()
	last := func() *Part { // the one that leads is upgraded last
		for _, s := range servers {
			if s.bin != next && s != r.leader() {
				return s
			}
		}
		return r.leader()
	}
	step := func(what string, do func()) {
		t.Helper()
		began := time.Now()
		do()
		r.whole("shop", copies)
		l.unharmed(what)
		t.Logf("%s: %s", what, time.Since(began).Round(100*time.Millisecond))
		if t.Failed() {
			t.FailNow()
		}
	}

	step("first server", func() { r.change(last(), next) })
	r.refuses("finish with old servers", "cannot be finished yet; upgrade the servers that are left", "rack", "upgrade", "--finish")
	step("use with one new server", func() { r.use("mixed-servers") })
	step("second server", func() { r.change(last(), next) })
	step("third server, which leads", func() { r.change(last(), next) })
	step("first node", func() { r.change(nodes[0], next) })
	step("use with one new node", func() { r.use("mixed-nodes") })
	step("other nodes", func() { r.change(nodes[1], next); r.change(nodes[2], next) })

	step("leader back", func() { r.change(r.leader(), bin.Dir) })
	step("node back", func() { r.change(nodes[0], bin.Dir) })
	step("use after the way back", func() { r.use("gone-back") })
	step("server again", func() { r.change(last(), next) })
	step("node again", func() { r.change(nodes[0], next) })

	step("finish", func() { r.must("rack", "upgrade", "--finish") })
	if u, err := r.PlanUpgrade(t.Context()); err != nil || u.Next != "" || u.CanFinish() || u.Format < 3 {
		t.Errorf("after the end the upgrade is %+v, %v", u, err)
	}
	step("use of the next version", func() { r.use("finished") })
	step("old server turned away", func() { r.tooOld(servers[2], next) })
}

// change stops a machine's program and starts that of another version, as an upgrade of its package
// does. Nothing that runs in containers may notice.
func (r *rack) change(p *Part, bin string) {
	r.t.Helper()
	r.must("rack", "upgrade")
	before := r.kept()
	p.Stop()
	p.Use(bin)
	if err := p.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.whole("shop", copies)
	r.runsVersion(p)
	if after := r.kept(); !slices.Equal(before, after) {
		r.t.Errorf("%s with the programs of %s: processes are\n%s\nand were\n%s", p.Name(), bin, strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// runsVersion waits until the rack knows the version of a machine, and until its router, where it has
// one, is of the same, and the only one.
func (r *rack) runsVersion(p *Part) {
	r.t.Helper()
	want := oldVersion
	if p.bin != bin.Dir {
		want = nextVersion
	}
	r.await(fmt.Sprintf("version %s of %s", want, p.Name()), time.Minute, func() (string, bool) {
		u, err := r.PlanUpgrade(r.t.Context())
		state, ok := fmt.Sprintln(err), false
		for _, s := range u.Servers {
			state += fmt.Sprintln(s.Name, s.Version, s.Formats)
			ok = ok || s.Name == p.Name() && s.Version == want
		}
		for _, n := range u.Nodes {
			state += fmt.Sprintln(n.Name, n.Version)
			ok = ok || n.Name == p.Name() && n.Version == want
		}
		return state, ok
	})
	if !slices.Contains(r.Cluster.Nodes(), p) {
		return
	}
	r.await("router of the same version", 30*time.Second, func() (string, bool) {
		list, err := p.Processes()
		state, routers := fmt.Sprintln(err), 0
		for _, q := range list {
			if len(q.Args) > 1 && q.Args[1] == "router" {
				state += fmt.Sprintln(q)
				if routers++; filepath.Dir(q.Args[0]) != p.bin {
					routers = 2
				}
			}
		}
		return state, routers == 1
	})
}

// kept lists what runs of the app, as the machines see it and as the rack does.
func (r *rack) kept() (out []string) {
	r.t.Helper()
	_, where := r.running()
	for line := range strings.Lines(where) {
		out = append(out, strings.TrimSpace(line))
	}
	list, err := r.Processes(r.t.Context(), client.ProcessFilter{App: "shop", Service: "web"})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range list {
		out = append(out, fmt.Sprint(p.ID, " ", p.Node))
	}
	slices.Sort(out)
	return out
}

// use does what people do with a rack: it builds, deploys, changes the environment and scales.
func (r *rack) use(what string) {
	r.t.Helper()
	r.deploy("shop", copies)
	r.must("env", "set", "WHAT="+what, "--promote", "-a", "shop")
	r.must("scale", "web", "--count", fmt.Sprint(copies+1), "-a", "shop")
	r.complete("shop", copies+1)
	r.must("scale", "web", "--count", fmt.Sprint(copies), "-a", "shop")
	r.complete("shop", copies)
	env, _, err := r.Env(r.t.Context(), api.AppName("shop"), "")
	if err != nil || env["WHAT"] != what {
		r.t.Errorf("the environment is %v, %v; want WHAT=%s", env, err, what)
	}
}

// refuses runs the CLI, which has to fail and say why.
func (r *rack) refuses(what, why string, args ...string) {
	r.t.Helper()
	if out, err := r.slipway(args...); err == nil || !strings.Contains(out, why) {
		r.t.Errorf("%s: %v, want %q in\n%s", what, err, why, out)
	}
}

// tooOld starts a server with a version that does not read what the rack writes by now: it ends, says
// why, and comes back with the right one.
func (r *rack) tooOld(p *Part, next string) {
	r.t.Helper()
	p.Stop()
	p.Use(bin.Dir)
	if err := p.Start(); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-p.Ended():
	case <-time.After(30 * time.Second):
		r.t.Errorf("%s still runs with a version that does not read the rack's format", p.Name())
	}
	said, err := os.ReadFile(filepath.Join(p.Dir(), outFile))
	if err != nil || !strings.Contains(string(said), "install the newer version of slipway again") {
		r.t.Errorf("%s does not say why it ends: %v\n%s", p.Name(), err, said)
	}
	p.Use(next)
	if err := p.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.await("answer of "+p.Name(), 30*time.Second, func() (string, bool) {
		target, err := r.Context()
		if err != nil {
			return err.Error(), false
		}
		target.Addr, target.Others = net.JoinHostPort(p.Addr().String(), "7420"), nil
		one, err := client.Dial(r.t.Context(), target)
		if err != nil {
			return err.Error(), false
		}
		defer one.Close()
		_, err = one.Rack(r.t.Context())
		return fmt.Sprint(err), err == nil
	})
}
