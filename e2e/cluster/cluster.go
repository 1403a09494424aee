package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/api"
	"slipway/api/client"
	"slipway/e2e/hosts"
)

// Domain of the rack's routes.
const Domain = "cluster.test"

// The files of a part, below its host's directory.
const (
	dataDir = "data"
	logFile = "log"
	outFile = "out"
)

// Config is what a Cluster is made of.
type Config struct {
	Dir string // absolute; state of the hosts and their disks
	Bin string // absolute directory of slipway, slipwayd and sliplog
	// Servers and Nodes are how many there are of each, a host for each.
	Servers, Nodes int
	// Bound ends the rack with the program that made it, however that ends.
	Bound bool
	// ServerFlags and AgentFlags are further flags.
	ServerFlags, AgentFlags []string
}

// Cluster is a rack in several hosts.
type Cluster struct {
	*hosts.Rig
	cfg     Config
	servers []*Part
	nodes   []*Part
}

// Part is a server or an agent in its host.
type Part struct {
	*hosts.Host
	args []string
	bin  string

	mu   sync.Mutex
	cmd  *hosts.Cmd
	done chan struct{} // closed when cmd has ended
}

// New makes the hosts. Start starts the rack in them.
func New(cfg Config) (*Cluster, error) {
	var names []string
	for i := range cfg.Servers {
		names = append(names, fmt.Sprint("server", i+1))
	}
	for i := range cfg.Nodes {
		names = append(names, fmt.Sprint("node", i+1))
	}
	rig, err := hosts.New(hosts.Config{Dir: cfg.Dir, Names: names, Bound: cfg.Bound})
	if err != nil {
		return nil, err
	}
	c := &Cluster{Rig: rig, cfg: cfg}
	if _, err := rig.Uplink(); err != nil {
		return nil, errors.Join(err, rig.Close())
	}
	for i, h := range rig.Hosts() {
		if err := os.MkdirAll(filepath.Join(h.Dir(), dataDir), 0o711); err != nil {
			return nil, errors.Join(err, rig.Close())
		}
		if i < cfg.Servers {
			c.servers = append(c.servers, &Part{Host: h, bin: cfg.Bin, args: c.serverArgs(i)})
			continue
		}
		c.nodes = append(c.nodes, &Part{Host: h, bin: cfg.Bin, args: c.agentArgs(h)})
	}
	return c, nil
}

// Servers returns the servers; the first one made the rack.
func (c *Cluster) Servers() []*Part { return c.servers }

// Nodes returns the nodes.
func (c *Cluster) Nodes() []*Part { return c.nodes }

func (c *Cluster) serverArgs(i int) []string {
	h := c.Host(i)
	args := []string{"server", "--dir", filepath.Join(h.Dir(), dataDir), "--advertise", h.Addr().String(), "--rack", "cluster",
		"--domain", Domain, "--http", "80", "--https", "443", "--log", filepath.Join(h.Dir(), logFile)}
	if i == 0 {
		args = append(args, "--bootstrap")
	} else {
		args = append(args, "--join", c.addr(0), "--token-file", c.first("join-server.token"))
	}
	return append(args, c.cfg.ServerFlags...)
}

func (c *Cluster) agentArgs(h *hosts.Host) []string {
	var servers []string
	for i := range c.cfg.Servers {
		servers = append(servers, c.addr(i))
	}
	args := []string{"agent", "--dir", filepath.Join(h.Dir(), dataDir), "--join", strings.Join(servers, ","), "--token-file", c.first("join-agent.token"),
		"--node-addr", h.Addr().String(), "--router-host", h.Addr().String(), "--http", "80", "--https", "443",
		"--containerd", "own", "--log", filepath.Join(h.Dir(), logFile)}
	return append(args, c.cfg.AgentFlags...)
}

func (c *Cluster) addr(i int) string { return net.JoinHostPort(c.Host(i).Addr().String(), "7420") }

// first is a file of the first server.
func (c *Cluster) first(name string) string { return filepath.Join(c.Host(0).Dir(), dataDir, name) }

// Start starts all parts of the rack, and returns when every server has a vote and every node is
// ready.
func (c *Cluster) Start(ctx context.Context) error {
	if err := c.servers[0].Start(); err != nil {
		return err
	}
	if err := c.await(ctx, "the first server", func(rack *client.Client) (string, bool, error) {
		_, err := rack.Rack(ctx)
		return "", err == nil, err
	}); err != nil {
		return err
	}
	for _, p := range append(c.servers[1:], c.nodes...) {
		if err := p.Start(); err != nil {
			return err
		}
	}
	return c.Whole(ctx)
}

// Whole returns when every server has a vote and answers, and every node is ready.
func (c *Cluster) Whole(ctx context.Context) error {
	return c.await(ctx, "the whole rack", func(rack *client.Client) (string, bool, error) {
		servers, err := rack.Servers(ctx)
		if err != nil {
			return "", false, err
		}
		nodes, err := rack.Nodes(ctx)
		voters, ready := 0, 0
		for _, s := range servers {
			if s.Voter && s.Status == "alive" {
				voters++
			}
		}
		for _, n := range nodes {
			if n.Status == api.NodeReady {
				ready++
			}
		}
		return fmt.Sprintf("%d of %d servers, %d of %d nodes", voters, c.cfg.Servers, ready, c.cfg.Nodes), voters == c.cfg.Servers && ready == c.cfg.Nodes, err
	})
}

// await asks the rack until it says yes, or ctx ends; then the error tells what it said last, and
// what the parts printed.
func (c *Cluster) await(ctx context.Context, what string, ask func(*client.Client) (string, bool, error)) error {
	for {
		state, ok, err := "", false, error(nil)
		rack, err := c.Client(ctx)
		if err == nil {
			state, ok, err = ask(rack)
			rack.Close()
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %s: %w\n%s", what, state, err, c.Output())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Client returns a client with the rights of an administrator.
func (c *Cluster) Client(ctx context.Context) (*client.Client, error) {
	target, err := c.Context()
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, target)
}

// Context is what a client needs to reach the rack.
func (c *Cluster) Context() (client.Context, error) {
	ca, err := os.ReadFile(c.first("machine/trust.pem"))
	if err != nil {
		return client.Context{}, err
	}
	token, err := os.ReadFile(c.first("admin.token"))
	if err != nil {
		return client.Context{}, err
	}
	target := client.Context{Addr: c.addr(0), CA: string(ca), Token: string(token)}
	for i := 1; i < c.cfg.Servers; i++ {
		target.Others = append(target.Others, c.addr(i))
	}
	return target, nil
}

// WriteReady writes the file by which slipwayd's own commands find a rack: Dir/ready.
func (c *Cluster) WriteReady() error {
	doc, err := json.Marshal(map[string]any{
		"addr": c.addr(0), "registry": net.JoinHostPort(c.Host(0).Addr().String(), "7421"),
		"ca": c.first("machine/trust.pem"), "token": c.first("admin.token"), "http": 80, "https": 443,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.cfg.Dir, "ready"), doc, 0o600)
}

// Output returns the end of what each part printed and logged.
func (c *Cluster) Output() string {
	var b strings.Builder
	for _, p := range append(append([]*Part(nil), c.servers...), c.nodes...) {
		for _, name := range []string{outFile, logFile} {
			text, err := os.ReadFile(filepath.Join(p.Dir(), name))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintln(&b, err)
			}
			if len(text) > 0 {
				fmt.Fprintf(&b, "== %s %s\n%s\n", p.Name(), name, text[max(0, len(text)-3000):])
			}
		}
	}
	return b.String()
}

// Close ends everything.
func (c *Cluster) Close() error {
	err := c.Rig.Close()
	for _, p := range append(append([]*Part(nil), c.servers...), c.nodes...) {
		p.wait()
	}
	return err
}

// Use has the next Start take the programs of another directory.
func (p *Part) Use(bin string) { p.bin = bin }

// Ended is closed when the program has ended.
func (p *Part) Ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Start starts the program, which must not run.
func (p *Part) Start() error {
	out, err := os.OpenFile(filepath.Join(p.Dir(), outFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := p.Command(context.Background(), filepath.Join(p.bin, "slipwayd"), p.args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives whoever has started it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name(), err)
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	go func() {
		_ = cmd.Wait() // how it ended stands in its output
		close(done)
	}()
	return nil
}

// Kill ends the program by SIGKILL and waits for its end; what it started goes on.
func (p *Part) Kill() { p.end(syscall.SIGKILL) }

// Stop ends the program as systemd does, by SIGTERM.
func (p *Part) Stop() { p.end(syscall.SIGTERM) }

func (p *Part) end(sig syscall.Signal) {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Signal(sig) // it may have ended
		p.wait()
	}
}

// wait waits until the program has ended.
func (p *Part) wait() {
	if done := p.Ended(); done != nil {
		<-done
	}
}
