package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	rackapi "slipway/api/client"
	"slipway/e2e/hosts"
	product "slipway/server"
)

// settleMax is how long a rack of real servers may take until all works again.
const settleMax = 2 * time.Minute

// machines is a rack of real servers, each on a host of its own.
type machines struct {
	t       *testing.T
	rig     *hosts.Rig
	program string
	dir     string
	all     []*machine
	access  rackapi.Context
	// joinServer and joinAgent are the tokens that machines join with, of the first server: its disk
	// may be exchanged.
	joinServer, joinAgent string
}

// machine is one server: a host and the program on it.
type machine struct {
	of   *machines
	host *hosts.Host
	disk *disk

	mu      sync.Mutex
	lives   int        // how often it began anew with an empty directory
	program *hosts.Cmd // nil while it is down
	exited  chan struct{}
	joins   bool // the program may end by itself: it is not part of the rack yet
}

// newMachines starts a rack of n servers and waits until all have a vote.
func newMachines(t *testing.T, n int) *machines {
	t.Helper()
	if os.Geteuid() != 0 || testing.Short() {
		t.Skip("needs root, and some minutes")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft")
	}
	m := &machines{t: t, dir: t.TempDir()}
	m.program = filepath.Join(m.dir, "slipwayd")
	build := exec.Command("go", "build", "-o", m.program, "slipway/cmd/slipwayd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build slipwayd: %v\n%s", err, out)
	}
	disks := m.newDisks(n) // before the hosts, which see what is mounted when they begin
	var err error
	if m.rig, err = hosts.New(hosts.Config{Dir: filepath.Join(m.dir, "rig"), Hosts: n, Bound: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	if _, err := m.rig.Uplink(); err != nil {
		t.Fatal(err)
	}
	for i, h := range m.rig.Hosts() {
		s := &machine{of: m, host: h, disk: disks[i]}
		m.all = append(m.all, s)
		args := []string{"--bootstrap"}
		if i > 0 {
			args = m.joining(s)
		}
		if err := s.start(args...); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			m.login()
		}
	}
	m.settle()
	return m
}

// newDisks makes a disk for each machine.
func (m *machines) newDisks(n int) (out []*disk) {
	m.t.Helper()
	place := filepath.Join(m.dir, "disks")
	end, err := shared(place)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := end(); err != nil {
			m.t.Error(err)
		}
	})
	for i := range n {
		d, err := newDisk(filepath.Join(place, fmt.Sprint("disk", i)))
		if d == nil {
			m.t.Fatal(err)
		}
		if err != nil {
			m.t.Logf("disk %d never stands still: %v", i, err)
		}
		m.t.Cleanup(func() { // after the hosts have ended
			if err := d.close(); err != nil {
				m.t.Error(err)
			}
		})
		out = append(out, d)
	}
	return out
}

// joining are the flags of a server that joins.
func (m *machines) joining(s *machine) []string {
	var others []string
	for _, o := range m.all {
		if o != s {
			others = append(others, o.addr())
		}
	}
	return []string{"--join", strings.Join(others, ","), "--token-file", m.joinServer}
}

// login waits for the first server and what it leaves for its administrator.
func (m *machines) login() {
	m.t.Helper()
	var trust, token []byte
	m.await("first server", func() (string, bool) {
		var err, err2 error
		trust, err = os.ReadFile(m.all[0].path(product.TrustFile))
		token, err2 = os.ReadFile(m.all[0].path(product.AdminTokenFile))
		return fmt.Sprint(err, err2), err == nil && err2 == nil && len(token) > 0
	})
	m.access = rackapi.Context{CA: string(trust), Token: string(token)}
	m.joinServer = filepath.Join(m.dir, "join-server")
	join, err := os.ReadFile(m.all[0].path(product.JoinServerTokenFile))
	if err == nil {
		err = os.WriteFile(m.joinServer, join, 0o600)
	}
	node, err2 := os.ReadFile(m.all[0].path(product.JoinAgentTokenFile))
	if err != nil || err2 != nil {
		m.t.Fatal(err, err2)
	}
	m.joinAgent = string(node)
	c := m.client(0)
	defer c.Close()
	m.await("answer of the first server", func() (string, bool) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := c.Rack(ctx)
		return fmt.Sprint(err), err == nil
	})
}

// client returns a client that asks the given server first and knows the others.
func (m *machines) client(first int) *rackapi.Client {
	m.t.Helper()
	access := m.access
	for i := range m.rig.Len() {
		addr := net.JoinHostPort(m.rig.Host((first+i)%m.rig.Len()).Addr().String(), "7420")
		if i == 0 {
			access.Addr = addr
		} else {
			access.Others = append(access.Others, addr)
		}
	}
	c, err := rackapi.Dial(context.Background(), access)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// settle waits until all servers have a vote and answer.
func (m *machines) settle() {
	m.t.Helper()
	c := m.client(0)
	defer c.Close()
	m.await("three servers with a vote", func() (string, bool) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		list, err := c.Servers(ctx)
		votes := 0
		for _, s := range list {
			if s.Voter && s.Status == "alive" {
				votes++
			}
		}
		return fmt.Sprintf("%+v %v", list, err), votes == len(m.all) && len(list) == votes
	})
}

func (m *machines) await(what string, ok func() (string, bool)) {
	m.t.Helper()
	deadline := time.Now().Add(settleMax)
	for {
		state, done := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("no %s within %s: %s\n%s", what, settleMax, state, m.picture())
		}
		time.Sleep(50 * time.Millisecond) // polls, does not order anything
	}
}

// picture is what a failing test prints: the last words of each server.
func (m *machines) picture() string {
	var b strings.Builder
	for _, s := range m.all {
		text, err := os.ReadFile(s.log())
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), func(line string) bool {
			return strings.Contains(line, `msg="content not replicated"`) // the images of the apps are nowhere
		})
		fmt.Fprintf(&b, "%s (%v):\n%s\n", s.host.Name(), err, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	return b.String()
}

// close ends what runs and takes the hosts away.
func (m *machines) close() {
	for _, s := range m.all {
		if err := s.kill(); err != nil {
			m.t.Error(err)
		}
	}
	if err := m.rig.Close(); err != nil {
		m.t.Error(err)
	}
}

// path is where a file of the server is.
func (s *machine) path(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return filepath.Join(s.disk.path, fmt.Sprint("data", s.lives), name)
}
func (s *machine) addr() string { return net.JoinHostPort(s.host.Addr().String(), "7420") }
func (s *machine) log() string  { return filepath.Join(s.of.dir, s.host.Name()+".log") }

// start starts the program.
func (s *machine) start(more ...string) error {
	args := append([]string{"server", "--dir", s.path(""), "--advertise", s.host.Addr().String()}, more...)
	cmd := s.host.Command(context.Background(), s.of.program, args...)
	out, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.host.Name(), err)
	}
	exited := make(chan struct{})
	s.mu.Lock()
	s.program, s.exited = cmd, exited
	s.mu.Unlock()
	go func() {
		err := cmd.Wait()
		close(exited)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.program == cmd { // nobody has ended it
			if !s.joins {
				s.of.t.Errorf("%s has ended by itself: %v\n%s", s.host.Name(), err, s.of.picture())
			}
			s.program = nil
		}
	}()
	return nil
}

// end takes the program from everybody who looks for it.
func (s *machine) end() (*hosts.Cmd, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := s.program
	s.program = nil
	return cmd, s.exited
}

// kill is kill -9.
func (s *machine) kill() error {
	cmd, exited := s.end()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", s.host.Name(), err)
	}
	<-exited
	return nil
}

// powerOff takes the host's power, and what its disk has not synced.
func (s *machine) powerOff() error {
	_, exited := s.end()
	if err := s.host.PowerOff(); err != nil {
		return err
	}
	<-exited
	return s.disk.lose()
}

// powerOn gives the power back and starts the program.
func (s *machine) powerOn() error {
	if err := s.host.PowerOn(); err != nil {
		return err
	}
	return s.start()
}

// signal sends a signal to the program.
func (s *machine) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.program == nil {
		return nil
	}
	return s.program.Process.Signal(sig)
}
