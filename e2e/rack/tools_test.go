package rack

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"slipway/api"
)

func logsFollowDeploys(t *testing.T, r *rack) {
	r.must("", "deploy", r.source("follow", 1, ""), "-a", "follow")
	out, stop := r.background("logs", "-a", "follow")
	r.awaitState("line of the first copy", 20*time.Second, func() (string, bool) {
		return out.String(), strings.Contains(out.String(), "starting one")
	})
	for i := range 3 {
		version := fmt.Sprintf("v%d", i)
		r.must("", "env", "set", "VERSION="+version, "--promote", "-a", "follow")
		r.ask("follow", "/say?text=hello-from-"+version)
		r.awaitState("lines of "+version, 20*time.Second, func() (string, bool) {
			text := out.String()
			return text, strings.Contains(text, "starting "+version) && strings.Contains(text, "hello-from-"+version)
		})
	}
	r.must("", "restart", "-a", "follow")
	r.awaitState("lines of the restarted copy", 20*time.Second, func() (string, bool) {
		return out.String(), strings.Count(out.String(), "starting v2\n") == 2
	})
	stop(syscall.SIGINT)
	if n := strings.Count(out.String(), "hello-from-"); n != 3 {
		t.Errorf("%d lines instead of 3:\n%s", n, out)
	}
}

func toolsReachProcesses(t *testing.T, r *rack) {
	src := r.source("tools", 1, "")
	r.must("", "deploy", src, "-a", "tools")
	id := string(r.live("tools")[0].ID)
	if out := r.must("", "exec", id, "-a", "tools", "--", "/testapp", "env", "VERSION"); out != "one\n" {
		t.Errorf("exec printed %q", out)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	if out := r.must(big, "exec", "web", "-a", "tools", "--", "/testapp", "copy"); out != big {
		t.Errorf("1 MiB through exec came back as %d bytes", len(out))
	}
	for _, want := range []int{0, 7, 255} {
		if out, code := r.slipway("", "exec", "web", "-a", "tools", "--", "/testapp", "exit", fmt.Sprint(want)); code != want {
			t.Errorf("exec of a command that ends with %d: %d\n%s", want, code, out)
		}
	}
	if out, code := r.slipway("", "exec", "web", "-a", "tools", "--", "/nothing"); code == 0 || !strings.Contains(out, "/nothing") {
		t.Errorf("exec of a command that is not there: %d\n%s", code, out)
	}

	file, back := filepath.Join(src, "big"), filepath.Join(src, "back")
	writeFile(t, file, big)
	r.must("", "cp", file, "web:/copied", "-a", "tools")
	r.must("", "cp", id+":/copied", back, "-a", "tools")
	if readFile(t, back) != big {
		t.Error("a file is not the same after the way there and back")
	}
	if out := r.must("", "exec", id, "-a", "tools", "--", "/testapp", "read", "/copied"); out != big {
		t.Errorf("the copied file has %d bytes in the process", len(out))
	}
	tree := filepath.Join(src, "tree")
	if err := os.MkdirAll(tree+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, tree+"/a/b/c", "deep")
	r.must("", "cp", tree, "web:/put/", "-a", "tools")
	r.must("", "cp", "web:/put/tree", src+"/got", "-a", "tools")
	if got := readFile(t, src+"/got/a/b/c"); got != "deep" {
		t.Errorf("a directory came back with %q", got)
	}
	if out, code := r.slipway("", "cp", "web:/nothing", back, "-a", "tools"); code == 0 || !strings.Contains(out, "/nothing") {
		t.Errorf("cp of a file that is not there: %d\n%s", code, out)
	}
}

// portsAreReached goes to a port from this machine by the CLI, which asks for it by gRPC.
func portsAreReached(t *testing.T, r *rack) {
	r.must("", "deploy", r.source("ports", 1, ""), "-a", "ports")
	id := string(r.live("ports")[0].ID)
	out, stop := r.background("proxy", "0:web:3000", "0:"+id+":3000", "0:web.ports:3001", "-a", "ports")
	var local []string
	r.awaitState("local ports", 20*time.Second, func() (string, bool) {
		local = nil
		for _, m := range regexp.MustCompile(`(?m)^Forwarding (\S+) to \S+$`).FindAllStringSubmatch(out.String(), -1) {
			local = append(local, m[1])
		}
		return out.String(), len(local) == 3
	})
	for _, addr := range local[:2] {
		for range 3 {
			if err := echoThrough(t, addr); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
	if resp, err := http.Get("http://" + local[2]); err == nil {
		resp.Body.Close()
		t.Error("a port that nobody listens on answered")
	}
	r.awaitState("word of a port that nobody listens on", 20*time.Second, func() (string, bool) {
		return out.String(), strings.Contains(out.String(), "web.ports:3001: process "+id+" does not accept connections to port 3001")
	})
	stop(syscall.SIGINT)
	for _, args := range [][]string{{"proxy", "wbe:3000"}, {"proxy", "web"}, {"proxy", "web:0"}, {"proxy", "web:99999"}, {"proxy", ":3000"}, {"proxy", "web.UP:3000"}} {
		if said, code := r.slipway("", append(args, "-a", "ports")...); code == 0 || !strings.Contains(said, "Error") && !strings.Contains(said, "ERROR") {
			t.Errorf("%q: %d %s", args, code, said)
		}
	}
}

// echoThrough sends a megabyte to a process and compares what comes back.
func echoThrough(t *testing.T, addr string) error {
	conn, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/echo", nil)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	for i := range 64 {
		text := strings.Repeat(fmt.Sprintf("%016d", i), 1<<10)
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			return err
		}
		if _, back, err := conn.Read(t.Context()); err != nil || string(back) != text {
			return fmt.Errorf("%d bytes came back: %w", len(back), err)
		}
	}
	return conn.Close(websocket.StatusNormalClosure, "")
}

func runsPassOnTheirEnd(t *testing.T, r *rack) {
	r.must("", "deploy", r.source("runs", 1, ""), "-a", "runs")
	for _, want := range []int{0, 7, 255} {
		if out, code := r.slipway("", "run", "web", "-a", "runs", "--", "exit", fmt.Sprint(want)); code != want {
			t.Errorf("run of a command that ends with %d: %d\n%s", want, code, out)
		}
	}
	if out := r.must("to and fro", "run", "web", "-a", "runs", "--", "copy"); !strings.Contains(out, "to and fro") {
		t.Errorf("run printed %q", out)
	}
	// The newest release is not promoted; only the run sees its variables.
	r.must("", "env", "set", "VERSION=unpromoted", "-a", "runs")
	newest := document[[]api.ReleaseInfo](r, "releases", "-a", "runs", "--json")[0].ID
	if out := r.must("", "run", "web", "--release", string(newest), "-a", "runs", "--", "env", "VERSION"); !strings.Contains(out, "unpromoted") {
		t.Errorf("run --release printed %q", out)
	}
	if out := r.must("", "run", "web", "-a", "runs", "--", "env", "VERSION"); !strings.Contains(out, "one") {
		t.Errorf("run printed %q", out)
	}

	id := string(document[api.ProcessInfo](r, "run", "web", "--detach", "--json", "-a", "runs", "--", "count", "100").ID)
	r.awaitState("end of the detached run", 20*time.Second, func() (string, bool) {
		out := r.must("", "ps", "info", id, "-a", "runs")
		return out, strings.Contains(out, "Exit code  0")
	})
	if out := r.must("", "logs", "--no-follow", "--process", id, "-a", "runs"); !strings.Contains(out, "count 99\n") {
		t.Errorf("logs of the detached run:\n%s", out)
	}
	id = string(document[api.ProcessInfo](r, "run", "web", "--detach", "--json", "-a", "runs", "--", "wait").ID)
	r.awaitState("start of the second", 20*time.Second, func() (string, bool) {
		out := r.must("", "logs", "--no-follow", "--process", id, "-a", "runs")
		return out, strings.Contains(out, "waiting")
	})
	r.must("", "ps", "stop", id, "-a", "runs")
	r.awaitState("end of the second", 20*time.Second, func() (string, bool) {
		out := r.must("", "ps", "info", id, "-a", "runs")
		return out, strings.Contains(out, "stopped")
	})
	if n := len(r.live("runs")); n != 1 {
		t.Errorf("%d processes run, not the service's copy alone:\n%s", n, r.must("", "ps", "-a", "runs"))
	}
}

func envIsEdited(t *testing.T, r *rack) {
	src := r.source("edit", 1, "")
	r.must("", "deploy", src, "-a", "edit")
	r.must("", "env", "set", "MODE=keep", "-a", "edit")
	editor := filepath.Join(src, "editor")
	if err := os.WriteFile(editor, []byte("#!/bin/sh\nprintf 'VERSION=edited\\n' >>\"$1\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := r.cli(t.Context(), "env", "edit", "--promote", "-a", "edit")
	cmd.Env = append(cmd.Env, "VISUAL=", "EDITOR="+editor)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("env edit: %v\n%s", err, out)
	}
	if got := r.get("edit"); got != "edited GET 0\n" {
		t.Errorf("the app answers %q", got)
	}
	contains(t, "env", r.must("", "env", "-a", "edit"), "MODE=keep", "VERSION=edited")
}

func restartReplaces(t *testing.T, r *rack) {
	r.must("", "deploy", r.source("restart", 2, "    drain: 2\n"), "-a", "restart")
	old := map[api.ProcessID]bool{}
	for _, p := range r.live("restart") {
		old[p.ID] = true
	}
	l := r.load("restart", 10)
	r.must("", "restart", "web", "-a", "restart")
	r.awaitState("two new copies", 30*time.Second, func() (string, bool) {
		live := r.live("restart")
		fresh := 0
		for _, p := range live {
			if p.Ready && !old[p.ID] {
				fresh++
			}
		}
		return r.must("", "ps", "--all", "-a", "restart"), fresh == 2 && len(live) == 2
	})
	l.end(t)
}

func deleteLeavesNothing(t *testing.T, r *rack) {
	const volume = "    volumes:\n      - /data\n"
	r.must("", "deploy", r.source("gone", 2, volume), "-a", "gone")
	id := r.live("gone")[0].ID
	if out, code := r.slipway("", "apps", "delete", "gonne"); code != 4 || !strings.Contains(out, `did you mean "gone"`) {
		t.Errorf("deleting an app that is not there: %d\n%s", code, out)
	}
	r.must("", "apps", "lock", "gone")
	if out, code := r.slipway("", "apps", "delete", "gone"); code == 0 || !strings.Contains(out, "unlock") {
		t.Errorf("deleting a locked app: %d\n%s", code, out)
	}
	r.must("", "apps", "unlock", "gone")
	r.must("", "apps", "delete", "gone")
	if out := r.must("", "apps"); strings.Contains(out, "gone") {
		t.Errorf("apps:\n%s", out)
	}
	if got := r.get("gone"); strings.Contains(got, "GET") {
		t.Errorf("the app answers %q", got)
	}
	r.awaitState("end of everything the app had on the node", 30*time.Second, func() (string, bool) {
		left := r.traces(id, "gone")
		return left, left == ""
	})
	// The name is free, and what comes has nothing of the old app.
	r.must("", "apps", "create", "gone")
	for _, list := range []string{"releases", "builds", "ps", "services"} {
		if out := r.must("", list, "-a", "gone", "--json"); strings.TrimSpace(out) != "[]" {
			t.Errorf("%s of the new app: %s", list, out)
		}
	}
}

// traces lists what a node holds of an app and one of its processes, but for its log.
func (r *rack) traces(id api.ProcessID, app string) string {
	var b strings.Builder
	for _, file := range globs("/proc/[0-9]*/cmdline") {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), string(id)) {
			fmt.Fprintf(&b, "process %q\n", text)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, string(id)) {
			b.WriteString("mount " + line)
		}
	}
	for _, pattern := range []string{"/run/slipway/*/*/*" + string(id) + "*", "/sys/fs/cgroup/*/*/*" + string(id) + "*", r.dir + "/rack/node/volumes/" + app} {
		for _, path := range globs(pattern) {
			fmt.Fprintln(&b, "path", path)
		}
	}
	return b.String()
}
