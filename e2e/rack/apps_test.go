package rack

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/api"
)

// TestOneRack runs stories that need no rack of their own, each with an app of its own.
func TestOneRack(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.scale = "      cpu: 20\n      memory: 64\n" // many apps have to fit on the node
	for name, story := range map[string]func(*testing.T, *rack){
		"liveness": livenessReplaces, "fade": fadeGoesBack, "stubborn": stubbornIsKilled, "memory": memoryIsNamed,
		"killed-cli": deployOutlivesItsCLI, "newest": newestPromotionWins, "twice": twoDeploysAtOnce,
		"badbuild": buildThatFails, "noimage": imageThatCannotBePulled, "noroom": noRoomIsSaid,
		"follow": logsFollowDeploys, "tools": toolsReachProcesses, "ports": portsAreReached, "runs": runsPassOnTheirEnd, "edit": envIsEdited,
		"restart": restartReplaces, "delete": deleteLeavesNothing,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story(t, r.on(t))
		})
	}
}

// processes lists the processes of an app, those that have ended as well.
func (r *rack) processes(app string) []api.ProcessInfo {
	r.t.Helper()
	return document[[]api.ProcessInfo](r, "ps", "--all", "-a", app, "--json")
}

// live lists the copies that run.
func (r *rack) live(app string) (out []api.ProcessInfo) {
	r.t.Helper()
	return document[[]api.ProcessInfo](r, "ps", "-a", app, "--json")
}

// document runs a command that answers with one.
func document[T any](r *rack, args ...string) (v T) {
	r.t.Helper()
	cmd := r.cli(r.t.Context(), args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("slipway %q: %v\n%s%s", args, err, out, said.String())
	}
	if err := json.Unmarshal(out, &v); err != nil {
		r.t.Fatalf("slipway %q: %v\n%s", args, err, out)
	}
	return v
}

// ask sends a request to a path of an app and returns the answer, or the error.
func (r *rack) ask(app, path string) string {
	client := r.client()
	defer client.CloseIdleConnections()
	resp, err := client.Post(r.url(app)+path, "", http.NoBody)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// contains checks that a text says everything that it should.
func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s does not say %q:\n%s", what, p, text)
		}
	}
}

// replaced waits until an app has one ready copy that is not the old one.
func (r *rack) replaced(app string, old api.ProcessID) {
	r.t.Helper()
	r.awaitState("replacement of "+string(old), 30*time.Second, func() (string, bool) {
		live := r.live(app)
		return r.must("", "ps", "--all", "-a", app), len(live) == 1 && live[0].ID != old && live[0].Ready
	})
}

const live = `    liveness:
      path: /live
      grace: 0
      interval: 1
      failureThreshold: 2
    termination:
      grace: 2
`

func livenessReplaces(t *testing.T, r *rack) {
	r.must("", "deploy", r.source("lively", 1, live), "-a", "lively")
	old := r.live("lively")[0].ID
	r.ask("lively", "/sick")
	r.replaced("lively", old)
	if got := r.get("lively"); got != "one GET 0\n" {
		t.Errorf("after the replacement the app answers %q", got)
	}
	contains(t, "why", r.must("", "why", string(old), "-a", "lively"), "liveness check failed 2 times", "/live", "500")
	contains(t, "the log", r.must("", "logs", "--no-follow", "--process", string(old), "-a", "lively"), "liveness check failed")
}

// fadeGoesBack deploys a release whose copies fail their checks after a while, and before the
// old copy has gone: that takes its time, far more than two of the new ones live.
func fadeGoesBack(t *testing.T, r *rack) {
	src := r.source("fade", 1, strings.Replace(live, "grace: 2\n", "grace: 20\n", 1))
	r.must("", "deploy", src, "-a", "fade")
	r.must("", "env", "set", "MODE=stubborn", "--promote", "-a", "fade")
	out, code := r.slipway("", "env", "set", "MODE=fade", "VERSION=two", "--promote", "-a", "fade")
	if code != 10 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	contains(t, "deploy", out, "/live", "500", "is in force again")
	if got := r.get("fade"); got != "one GET 0\n" {
		t.Errorf("after the rollback the app answers %q", got)
	}
}

func stubbornIsKilled(t *testing.T, r *rack) {
	src := r.source("stubborn", 1, "    termination:\n      grace: 2\n")
	r.must("", "deploy", src, "-a", "stubborn")
	r.must("", "env", "set", "MODE=stubborn", "--promote", "-a", "stubborn")
	old := r.live("stubborn")[0].ID
	began := time.Now()
	r.must("", "env", "set", "MODE=", "--promote", "-a", "stubborn")
	if took := time.Since(began); took < 2*time.Second || took > 20*time.Second {
		t.Errorf("with a grace of 2 s the deployment took %s", took)
	}
	const says = "ignored SIGTERM for 2s and was killed"
	contains(t, "why", r.must("", "why", string(old), "-a", "stubborn"), says)
	contains(t, "ps info", r.must("", "ps", "info", string(old), "-a", "stubborn"), says, "137")
	contains(t, "the log", r.must("", "logs", "--no-follow", "-a", "stubborn"), says)
}

func memoryIsNamed(t *testing.T, r *rack) {
	r.must("", "deploy", r.source("hungry", 1, ""), "-a", "hungry")
	old := r.live("hungry")[0].ID
	r.ask("hungry", "/eat")
	r.replaced("hungry", old)
	says := []string{"killed for memory", "the limit is 64 MiB", "it used up to 6", "raise scale.memory"}
	contains(t, "why", r.must("", "why", string(old), "-a", "hungry"), says...)
	contains(t, "the log", r.must("", "logs", "--no-follow", "-a", "hungry"), says...)

	out, code := r.slipway("", "env", "set", "MODE=greedy", "--promote", "-a", "hungry")
	if code != 10 {
		t.Errorf("a release that eats memory: exit code %d\n%s", code, out)
	}
	contains(t, "deploy", out, says...)
	if got := r.get("hungry"); got != "one GET 0\n" {
		t.Errorf("after the rollback the app answers %q", got)
	}
}
