package rack

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/api"
)

// part is one of the two processes of a rack that is not "dev": a server or an agent.
type part struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	args []string
}

func (p *part) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(bin.Dir+"/slipwayd", p.args...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (p *part) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// split starts server and agent as two processes, as on two machines.
func split(t *testing.T) (r *rack, server, agent *part) {
	t.Helper()
	r = prepare(t)
	p := ports(t, 4)
	addr := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", p[i]) }
	router := []string{"--http", fmt.Sprint(r.http), "--https", fmt.Sprint(r.https), "--debug", "--log", r.dir + "/log"}
	server = &part{args: append([]string{"server", "--bootstrap", "--dir", r.dir + "/server", "--addr", addr(0), "--registry-addr", addr(1), "--raft-addr", addr(2)}, router...)}
	agent = &part{args: append([]string{"agent", "--dir", r.dir + "/rack", "--join", addr(0), "--token-file", r.dir + "/server/join-agent.token", "--containerd", "own", "--metrics-addr", addr(3)}, router...)}
	server.start(t)
	t.Cleanup(r.finish)
	t.Cleanup(func() {
		agent.kill()
		server.kill()
	})
	r.awaitState("server that answers", 30*time.Second, func() (string, bool) {
		token, err := os.ReadFile(r.dir + "/server/admin.token")
		if err != nil {
			return err.Error() + server.out.String(), false
		}
		out, code := r.slipway("", "login", addr(0), "--ca", r.dir+"/server/machine/trust.pem", "--name", "test", "--token", string(token))
		return out, code == 0
	})
	agent.start(t)
	r.awaitState("node that is ready", 30*time.Second, func() (string, bool) {
		out := r.must("", "nodes")
		return out + agent.out.String(), strings.Contains(out, "ready")
	})
	return r, server, agent
}

// TestRestartsOfAnAgentLoseNoLine follows two processes that write all the time, while their
// agent dies again and again. The command that follows does not notice.
func TestRestartsOfAnAgentLoseNoLine(t *testing.T) {
	t.Parallel()
	r, _, agent := split(t)
	r.must("", "deploy", r.source("shop", 1, ""), "-a", "shop")
	out, stop := r.background("logs", "-a", "shop")
	r.awaitState("first line", 20*time.Second, func() (string, bool) {
		return out.String(), strings.Contains(out.String(), "starting one")
	})
	const lines = 30000
	writers := map[string]int{}
	for range 2 {
		id := document[api.ProcessInfo](r, "run", "web", "--detach", "--json", "-a", "shop", "--", "count", strconv.Itoa(lines)).ID
		writers[string(id)] = 0
	}
	for i := range 3 {
		seen := strings.Count(out.String(), "count ")
		r.awaitState("more lines", 30*time.Second, func() (string, bool) {
			n := strings.Count(out.String(), "count ")
			return fmt.Sprint(n, " lines"), n > seen+1000 || n == 2*lines
		})
		agent.kill()
		if got := r.get("shop"); got != "one GET 0\n" {
			t.Errorf("without its agent, restart %d, the app answers %q", i, got)
		}
		agent.start(t)
	}
	last := fmt.Sprintf("count %d\n", lines-1)
	r.awaitState("last lines", time.Minute, func() (string, bool) {
		text := out.String()
		return text[max(0, len(text)-500):] + agent.out.String(), strings.Count(text, last) == 2
	})
	stop(syscall.SIGINT)
	counted(t, out.String(), writers)
	for id, n := range writers {
		if n != lines {
			t.Errorf("of process %s %d lines came, it wrote %d", id, n, lines)
		}
	}
}

// counted counts the lines of each writer, and checks their order.
func counted(t *testing.T, text string, writers map[string]int) {
	t.Helper()
	wrong := 0
	for _, m := range regexp.MustCompile(`web/(\w+) count (\d+)\n`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if expected := writers[m[1]]; n != expected && wrong < 10 {
			wrong++
			t.Errorf("process %s: line %d came where %d was to come", m[1], n, expected)
		}
		writers[m[1]]++
	}
	if i := strings.Index(text, "lost"); i >= 0 {
		t.Errorf("the log tells of a loss: %s", text[max(0, i-200):min(len(text), i+200)])
	}
}
