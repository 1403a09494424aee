package rack

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/e2e/programs"
)

var bin = programs.New(programs.Rack...)

func TestMain(m *testing.M) { os.Exit(bin.Main(m)) }

func build(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("needs root, containerd and time")
	}
	bin.Need(t)
}

// rack is one running rack.
type rack struct {
	t           *testing.T
	dir         string
	http, https int
	args        []string
	daemon      *exec.Cmd
	exited      chan struct{}
	before      string
	unmount     func() error // gives back a disk of its own
	scale       string       // what apps ask for beside their count, as lines of the manifest
}

// start starts a rack; the test's end stops it and compares the machine.
func start(t *testing.T) *rack {
	t.Helper()
	r := prepare(t)
	r.begin()
	return r
}

// prepare makes everything of a rack but the rack itself.
func prepare(t *testing.T) *rack {
	t.Helper()
	build(t)
	dir, err := os.MkdirTemp("", "slw")
	if err != nil {
		t.Fatal(err)
	}
	p := ports(t, 6)
	r := &rack{t: t, dir: dir, http: p[0], https: p[1], before: machine(t, dir+"/rack")}
	r.args = []string{
		"dev", "--dir", dir + "/rack", "--debug", "--log", dir + "/log", "--containerd", "own",
		"--http", fmt.Sprint(p[0]), "--https", fmt.Sprint(p[1]),
		"--addr", fmt.Sprintf("127.0.0.1:%d", p[2]), "--registry-addr", fmt.Sprintf("127.0.0.1:%d", p[3]), "--raft-addr", fmt.Sprintf("127.0.0.1:%d", p[4]),
		"--metrics-addr", fmt.Sprintf("127.0.0.1:%d", p[5]),
	}
	return r
}

// begin starts a rack that was prepared, and logs in.
func (r *rack) begin() {
	r.t.Helper()
	r.t.Cleanup(r.finish)
	r.launch()
	var ready struct{ Addr, CA, Token string }
	b, err := os.ReadFile(r.dir + "/rack/ready")
	if err == nil {
		err = json.Unmarshal(b, &ready)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	token, err := os.ReadFile(ready.Token)
	if err != nil {
		r.t.Fatal(err)
	}
	r.must("", "login", ready.Addr, "--ca", ready.CA, "--name", "test", "--token", string(token))
}

// down stops everything; what is stored stays.
func (r *rack) down() {
	r.t.Helper()
	out, err := exec.Command(bin.Dir+"/slipwayd", "down", "--dir", r.dir+"/rack", "--containerd", "own").CombinedOutput()
	if err != nil {
		r.t.Errorf("down: %v\n%s", err, out)
	}
}

// launch starts the daemon and waits until it serves.
func (r *rack) launch() {
	r.t.Helper()
	os.Remove(r.dir + "/rack/ready")
	r.daemon = exec.Command(bin.Dir+"/slipwayd", r.args...)
	r.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	r.daemon.Stderr, r.daemon.Stdout = &out, &out
	if err := r.daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
	exited, daemon := make(chan struct{}), r.daemon
	go func() {
		daemon.Wait()
		close(exited)
	}()
	r.exited = exited
	r.await("a rack that serves", 30*time.Second, func() bool {
		select {
		case <-exited:
			r.t.Fatalf("slipwayd ended:\n%s", out.String())
		default:
		}
		_, err := os.Stat(r.dir + "/rack/ready")
		return err == nil
	})
}

// kill ends the daemon as a power failure would end it, but for what outlives it.
func (r *rack) kill() {
	r.daemon.Process.Signal(syscall.SIGKILL)
	<-r.exited
}

// on is the rack as a part of its test sees it: what fails there fails that part.
func (r *rack) on(t *testing.T) *rack {
	c := *r
	c.t = t
	return &c
}

// finish stops everything and compares the machine with what it was.
func (r *rack) finish() {
	r.down()
	if r.unmount != nil {
		if err := r.unmount(); err != nil {
			r.t.Errorf("something uses the disk of the rack: %v", err)
		}
	}
	if after := machine(r.t, r.dir+"/rack"); after != r.before {
		r.t.Errorf("the machine before:\n%s\nand after:\n%s", r.before, after)
	}
	if r.t.Failed() {
		log, _ := os.ReadFile(r.dir + "/log")
		if len(log) > 8000 {
			log = log[len(log)-8000:]
		}
		r.t.Logf("the end of the daemon's log:\n%s", log)
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Error(err)
	}
}

// given are the ports that tests of this process have got.
var given sync.Map

// ports finds free ports, below those that the kernel gives to connections: a daemon that is
// killed must find its ports free when it comes back.
func ports(t *testing.T, n int) (out []int) {
	t.Helper()
	const first, last = 15000, 32000
	for range 1000 {
		if len(out) == n {
			return out
		}
		port := first + rand.IntN(last-first)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		if _, taken := given.LoadOrStore(port, true); !taken {
			out = append(out, port)
		}
	}
	t.Fatal("no free ports")
	return nil
}

// cli is a command of the CLI.
func (r *rack) cli(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, bin.Dir+"/slipway", args...)
	cmd.Env = append(os.Environ(), "SLIPWAY_CONFIG="+r.dir+"/cli.json", "SLIPWAY_RACK=")
	return cmd
}

// slipway runs the CLI and returns what it printed and its exit code.
func (r *rack) slipway(stdin string, args ...string) (out string, code int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := r.cli(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		r.t.Fatalf("slipway %q: %v", args, err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// must runs a command that has to succeed.
func (r *rack) must(stdin string, args ...string) string {
	r.t.Helper()
	out, code := r.slipway(stdin, args...)
	if code != 0 {
		r.t.Fatalf("slipway %q: exit code %d\n%s", args, code, out)
	}
	return out
}

// await waits for a condition.
func (r *rack) await(what string, limit time.Duration, ok func() bool) {
	r.t.Helper()
	r.awaitState(what, limit, func() (string, bool) { return "", ok() })
}

// awaitState waits for a condition, and prints what there is instead when it does not come.
func (r *rack) awaitState(what string, limit time.Duration, look func() (state string, ok bool)) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		state, ok := look()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no %s within %s, but:\n%s", what, limit, state)
		}
		time.Sleep(20 * time.Millisecond) // polls, does not order anything
	}
}

// source writes an app's directory. The manifest declares the test app's variables.
func (r *rack) source(app string, scale int, extra string) string {
	r.t.Helper()
	dir := filepath.Join(r.dir, app)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	manifest := fmt.Sprintf(`environment:
  - VERSION=one
  - MODE=
services:
  web:
    build: .
    port: 3000
    health:
      path: /check
      grace: 2
      interval: 2
      timeout: 1
    tls:
      redirect: false
    scale:
      count: %d
%s%s`, scale, r.scale, extra)
	for name, text := range map[string]string{"convox.yml": manifest, "Dockerfile": "FROM scratch\nCOPY testapp /testapp\nENTRYPOINT [\"/testapp\"]\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	b, err := os.ReadFile(bin.Dir + "/testapp")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "testapp"), b, 0o755); err != nil {
		r.t.Fatal(err)
	}
	return dir
}

// client sends every request to the router, whatever the host.
func (r *rack) client() *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 100,
	}}
}

func (r *rack) url(app string) string { return fmt.Sprintf("http://web.%s.localhost:%d", app, r.http) }
