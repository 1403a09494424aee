package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/api"
)

// healthy is a machine with nothing to complain about.
func healthy(o *checkOptions) *facts {
	f := &facts{
		root: true, installer: "apt-get install -y", kernel: "6.1.0-26-amd64",
		cgroup: cgroupFacts{version: 2, controllers: strings.Fields("cpuset cpu io memory pids"), boundsSwap: true},
		dir:    dirFacts{path: "/var/lib/slipway", tried: "/var/lib", filesystem: "ext4", total: 100 * api.GiB, free: 60 * api.GiB, inodes: 1 << 20, inodesAll: 1 << 22},
		clock:  clockFacts{synchronised: true, errorMax: 4 * time.Millisecond},
		files:  1 << 20,
		link:   linkFacts{name: "eth0", mtu: 9001},
		ports:  portsOf(o),
		chains: []chainFact{{family: "ip", table: "filter", name: "FORWARD", hook: "forward", policy: "accept"}},
		peers:  []peerFact{{addr: "10.0.0.12:7420", link: linkFacts{name: "eth0", mtu: 9001}, dated: true, offset: 300 * time.Millisecond, precision: 600 * time.Millisecond}},
		daemon: "1.6.20",
		probes: []probeFact{{name: "overlay"}, {name: "bridge"}, {name: "veth"}, {name: "vxlan"}, {name: "nftables"}},
		swap:   swapFacts{},
	}
	f.forwarding = true
	for name, version := range map[string]string{"containerd": "1.6.20", "containerd-shim-runc-v2": "", "runc": "1.3.3", "nft": "1.0.6", "ip": "6.1.0", "tini-static": "", "sliplog": ""} {
		f.programs = append(f.programs, programFact{name: name, path: "/usr/bin/" + name, version: version})
	}
	for i := range syncCount {
		f.dir.syncs = append(f.dir.syncs, time.Duration(i+1)*10*time.Microsecond)
		f.peers[0].trips = append(f.peers[0].trips, 300*time.Microsecond)
	}
	return f
}

// optionsFor are the options of a role as the command completes them.
func optionsFor(t *testing.T, r checkRole) *checkOptions {
	t.Helper()
	o := &checkOptions{role: r, dir: "/var/lib/slipway", containerd: containerdAuto, http: 80, https: 443, networkFlag: "10.192.0.0/10"}
	if err := o.complete(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestJudgeLetsHealthyMachinesIn(t *testing.T) {
	for r, least := range map[checkRole]int{roleServer: 15, roleAgent: 29, roleDev: 30} {
		o := optionsFor(t, r)
		found := judge(o, healthy(o))
		for _, f := range found {
			if f.Status != statusOK || f.Message == "" || f.Fix != "" {
				t.Errorf("%s: %+v", r, f)
			}
		}
		if len(found) < least {
			t.Errorf("%s: only %d findings", r, len(found))
		}
	}
}

// program returns a change of one program.
func program(name string, to programFact) func(*facts) {
	return func(f *facts) {
		i := slices.IndexFunc(f.programs, func(p programFact) bool { return p.name == name })
		to.name = name
		f.programs[i] = to
	}
}

// taken returns a change that gives a port away.
func taken(port int, h holder) func(*facts) {
	return func(f *facts) {
		i := slices.IndexFunc(f.ports, func(p portFact) bool { return p.port == port })
		f.ports[i].err, f.ports[i].holder = "address already in use", h
	}
}

func forwardDrops(c chainFact) func(*facts) {
	return func(f *facts) {
		c.hook, c.policy = "forward", "drop"
		f.chains = append(f.chains, c)
	}
}

func peerIs(err dialError) func(*facts) {
	return func(f *facts) { f.peers[0].err, f.peers[0].cause = err, "the cause" }
}

// TestJudgeNamesWhatIsWrong breaks one thing at a time: it alone is found, with what helps.
func TestJudgeNamesWhatIsWrong(t *testing.T) {
	for _, c := range slices.Concat(hostFaults(), networkFaults()) {
		t.Run(c.name, func(t *testing.T) {
			o := optionsFor(t, c.role)
			facts := healthy(o)
			c.change(facts)
			var wrong []finding
			for _, f := range judge(o, facts) {
				if f.Status != statusOK {
					wrong = append(wrong, f)
				}
				if f.Status == statusFailed && f.Fix == "" {
					t.Errorf("no way out: %+v", f)
				}
			}
			if len(wrong) != 1 {
				t.Fatalf("found %+v", wrong)
			}
			w := wrong[0]
			if w.Check != c.check || w.Object != c.object || w.Status != c.status || !strings.Contains(w.Message, c.says) || !strings.Contains(w.Fix, c.fix) {
				t.Errorf("found %+v\nwant %s %q %s, saying %q, fixed by %q", w, c.check, c.object, c.status, c.says, c.fix)
			}
		})
	}
}

// TestJudgeOfWhatRuns: what a rack has already is not in its own way.
func TestJudgeOfWhatRuns(t *testing.T) {
	o := optionsFor(t, roleAgent)
	f := healthy(o)
	taken(443, holder{program: "slipwayd", pid: 9, unit: "slipway-agent.service"})(f)
	taken(vxlanPort, holder{device: "slx1a2b"})(f)
	for _, got := range judge(o, f) {
		if got.Status != statusOK {
			t.Errorf("found %+v", got)
		}
		if got.Object == "tcp/443" && !strings.Contains(got.Message, "process 9") {
			t.Errorf("said %q", got.Message)
		}
	}
}

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		version, than string
		want          bool
	}{
		{"5.2", "5.3", true}, {"5.3", "5.3", false}, {"5.10.0-28", "5.3", false}, {"5.10", "5.9.9", false}, {"4.19.0-27-amd64", "5.3", true},
		{"1.6.20~ds1", "1.6", false}, {"1.1.5+ds1", "1.2.8", true}, {"1.6", "1.6.0", true}, {"", "1", false}, {"unknown", "1", false}, {"2", "1.9", false},
	} {
		if got := older(c.version, c.than); got != c.want {
			t.Errorf("%q older than %q: %v", c.version, c.than, got)
		}
	}
}

func TestQuantile(t *testing.T) {
	times := make([]time.Duration, 50)
	for i := range times {
		times[i] = time.Duration(i + 1)
	}
	for percent, want := range map[int]time.Duration{50: 25, 99: 50, 100: 50, 1: 1, 0: 1} {
		if got := quantile(times, percent); got != want {
			t.Errorf("p%d is %d, want %d", percent, got, want)
		}
	}
	if quantile(nil, 50) != 0 {
		t.Error("of nothing")
	}
}
