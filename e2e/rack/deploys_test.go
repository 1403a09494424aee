package rack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/api"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// output collects what a command prints while it runs.
type output struct {
	mu sync.Mutex

	b bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// background starts a command of the CLI; stop sends it a signal and waits for its end.
func (r *rack) background(args ...string) (out *output, stop func(syscall.Signal)) {
	r.t.Helper()
	out = &output{}
	cmd := r.cli(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	var once sync.Once
	stop = func(sig syscall.Signal) {
		once.Do(func() {
			cmd.Process.Signal(sig)
			cmd.Wait()
		})
	}
	r.t.Cleanup(func() { stop(syscall.SIGKILL) })
	return out, stop
}

// calm waits until the newest deployment of an app has ended and describes the app.
func (r *rack) calm(app string) api.AppInfo {
	r.t.Helper()
	var info api.AppInfo
	r.awaitState("end of the deployment", time.Minute, func() (string, bool) {
		info = document[api.AppInfo](r, "apps", "info", "-a", app, "--json")
		return info.Status, info.Status == "running" || info.Status == "failed"
	})
	return info
}

// slow is an app whose old copies take two seconds to go, so that a test can look into the
// middle of a deployment.
const slow = "    termination:\n      grace: 2\n"

func (r *rack) slowApp(app string) (src string) {
	r.t.Helper()
	src = r.source(app, 1, slow)
	r.must("", "deploy", src, "-a", app)
	r.must("", "env", "set", "MODE=stubborn", "--promote", "-a", app)
	return src
}

func deployOutlivesItsCLI(t *testing.T, r *rack) {
	src := r.slowApp("orphan")
	r.must("", "env", "set", "VERSION=two", "-a", "orphan")
	out, kill := r.background("deploy", src, "-a", "orphan")
	r.awaitState("deployment on its way", 30*time.Second, func() (string, bool) {
		status := document[api.AppInfo](r, "apps", "info", "-a", "orphan", "--json").Status
		return status + "\n" + out.String(), status == "updating"
	})
	kill(syscall.SIGKILL)
	attached := r.must("", "deploy", "--attach", "-a", "orphan")
	contains(t, "deploy --attach", attached, "web v4 is live (1/1")
	if got := r.get("orphan"); got != "two GET 0\n" {
		t.Errorf("the app answers %q", got)
	}

	// One whose command dies before the build has ended is built and promoted all the same.
	writeFile(t, src+"/Dockerfile", "FROM scratch\nCOPY testapp /testapp\nCOPY convox.yml /late\nENTRYPOINT [\"/testapp\"]\n")
	out, kill = r.background("deploy", src, "-a", "orphan")
	r.awaitState("build on its way", 30*time.Second, func() (string, bool) {
		return out.String(), len(document[[]api.BuildInfo](r, "builds", "-a", "orphan", "--json")) == 3
	})
	kill(syscall.SIGKILL)
	r.awaitState("release of the build in force", 40*time.Second, func() (string, bool) {
		b := document[[]api.BuildInfo](r, "builds", "-a", "orphan", "--json")[0]
		info := document[api.AppInfo](r, "apps", "info", "-a", "orphan", "--json")
		return fmt.Sprintf("%+v\n%+v", b, info), b.Release != "" && info.Release == b.Release && info.Status == "running"
	})
}

func newestPromotionWins(t *testing.T, r *rack) {
	r.slowApp("newest")
	r.must("", "env", "set", "VERSION=two", "-a", "newest")
	out, _ := r.background("releases", "promote", "-a", "newest")
	r.awaitState("first promotion on its way", 30*time.Second, func() (string, bool) {
		status := document[api.AppInfo](r, "apps", "info", "-a", "newest", "--json").Status
		return status + "\n" + out.String(), status == "updating"
	})
	r.must("", "env", "set", "VERSION=three", "MODE=", "--promote", "-a", "newest")
	if got := r.get("newest"); got != "three GET 0\n" {
		t.Errorf("the app answers %q", got)
	}
	r.awaitState("end of the command that was overtaken", 30*time.Second, func() (string, bool) {
		return out.String(), strings.Contains(out.String(), "ERROR: deployment") && strings.Contains(out.String(), "superseded")
	})
	for _, p := range r.live("newest") {
		if p.Release != document[[]api.ReleaseInfo](r, "releases", "-a", "newest", "--json")[0].ID {
			t.Errorf("a copy of release %s is left", p.Release)
		}
	}
}

func twoDeploysAtOnce(t *testing.T, r *rack) {
	src := r.source("twice", 1, "")
	r.must("", "deploy", src, "-a", "twice")
	type result struct {
		out  string
		code int
	}
	results := make(chan result, 2)
	for range 2 {
		go func() {
			out, code := r.slipway("", "deploy", src, "-a", "twice")
			results <- result{out, code}
		}()
	}
	succeeded := 0
	for range 2 {
		got := <-results
		switch {
		case got.code == 0:
			succeeded++
			contains(t, "deploy", got.out, "is live (1/1")
		case got.code == 10 && strings.Contains(got.out, "superseded"):
		case got.code == 3 && strings.Contains(got.out, "older"): // promoted after the newer one
		default:
			t.Errorf("exit code %d\n%s", got.code, got.out)
		}
	}
	releases := document[[]api.ReleaseInfo](r, "releases", "-a", "twice", "--json")
	if succeeded == 0 || len(releases) != 3 {
		t.Errorf("%d deploys succeeded, releases %+v", succeeded, releases)
	}
	info := r.calm("twice")
	if info.Release != releases[0].ID || len(r.live("twice")) != 1 {
		t.Errorf("release %s is in force, the newest is %s\n%s", info.Release, releases[0].ID, r.must("", "ps", "-a", "twice"))
	}
}

func buildThatFails(t *testing.T, r *rack) {
	src := r.source("badbuild", 1, "")
	r.must("", "deploy", src, "-a", "badbuild")
	good := readFile(t, src+"/Dockerfile")
	for name, c := range map[string]struct {
		dockerfile string
		says       []string
	}{
		"a step": {
			"FROM scratch\nCOPY testapp /testapp\nRUN [\"/testapp\", \"exit\", \"7\"]\n",
			[]string{"/testapp", "ended with exit code 7"},
		},
		"a step with output": {
			"FROM scratch\nCOPY testapp /testapp\nRUN [\"/testapp\", \"read\", \"/nowhere\"]\n",
			[]string{"open /nowhere: no such file or directory", "ended with exit code 1"},
		},
		"a file that is not there": {"FROM scratch\nCOPY missing /missing\n", []string{"missing"}},
		"nonsense":                 {"FROM scratch\nCOPPY a b\n", []string{"COPPY", "2"}},
	} {
		writeFile(t, src+"/Dockerfile", c.dockerfile)
		out, code := r.slipway("", "deploy", src, "-a", "badbuild")
		if code != 1 {
			t.Errorf("%s: exit code %d\n%s", name, code, out)
		}
		last := out[max(0, strings.LastIndex(out, "ERROR:")):]
		contains(t, name+": the error", last, append(c.says, "Dockerfile")...)
		b := document[[]api.BuildInfo](r, "builds", "-a", "badbuild", "--json")[0]
		if b.Status != api.BuildFailed || b.Release != "" {
			t.Errorf("%s: the build is %s and has release %q", name, b.Status, b.Release)
		}
		contains(t, name+": builds info", r.must("", "builds", "info", string(b.ID), "-a", "badbuild"), c.says...)
	}
	if n := len(document[[]api.ReleaseInfo](r, "releases", "-a", "badbuild", "--json")); n != 1 {
		t.Errorf("%d releases", n)
	}
	writeFile(t, src+"/Dockerfile", good)
	r.must("", "deploy", src, "-a", "badbuild")
}

// noRoomIsSaid asks for more than the node has, for a service and for a one-off.
func noRoomIsSaid(t *testing.T, r *rack) {
	src := r.source("noroom", 1, "")
	r.must("", "deploy", src, "-a", "noroom")
	big := strings.Replace(readFile(t, src+"/convox.yml"), "memory: 64", "memory: 4000000", 1)
	writeFile(t, src+"/convox.yml", big)
	out, _ := r.background("deploy", src, "-a", "noroom")
	const says = "not enough memory on 1 node (needs 3.8 TiB, largest free "
	r.awaitState("word that there is no room", 30*time.Second, func() (string, bool) {
		return out.String(), strings.Contains(out.String(), says)
	})
	contains(t, "why", r.must("", "why", "web", "-a", "noroom"), says)

	newest := document[[]api.ReleaseInfo](r, "releases", "-a", "noroom", "--json")[0].ID
	id := string(document[api.ProcessInfo](r, "run", "web", "--detach", "--json", "--release", string(newest), "-a", "noroom", "--", "exit", "0").ID)
	r.awaitState("word that there is no room for a one-off", 20*time.Second, func() (string, bool) {
		info := r.must("", "ps", "info", id, "-a", "noroom")
		return info, strings.Contains(info, says)
	})
	contains(t, "why", r.must("", "why", id, "-a", "noroom"), says)
	r.must("", "ps", "stop", id, "-a", "noroom")

	r.must("", "apps", "cancel", "noroom")
	r.awaitState("end of the command", 30*time.Second, func() (string, bool) {
		return out.String(), strings.Contains(out.String(), "cancelled by a user")
	})
	if got := r.get("noroom"); got != "one GET 0\n" {
		t.Errorf("the app answers %q", got)
	}
}

func imageThatCannotBePulled(t *testing.T, r *rack) {
	src := r.source("noimage", 1, "")
	r.must("", "deploy", src, "-a", "noimage")
	manifest := readFile(t, src+"/convox.yml")
	writeFile(t, src+"/convox.yml", strings.Replace(manifest, "build: .", "image: 127.0.0.1:9/nobody/nothing:latest", 1))
	out, code := r.slipway("", "deploy", src, "-a", "noimage")
	if code != 1 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	contains(t, "deploy", out[max(0, strings.LastIndex(out, "ERROR:")):], "127.0.0.1:9/nobody/nothing:latest")
	writeFile(t, src+"/convox.yml", manifest)
	writeFile(t, src+"/Dockerfile", "FROM nobody/nothing:1\nCOPY testapp /testapp\n")
	out, code = r.slipway("", "deploy", src, "-a", "noimage")
	if code != 1 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	contains(t, "deploy", out[max(0, strings.LastIndex(out, "ERROR:")):], "nobody/nothing:1")
	if got := r.get("noimage"); got != "one GET 0\n" {
		t.Errorf("the app answers %q", got)
	}
}
