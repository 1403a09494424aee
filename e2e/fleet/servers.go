package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"slipway/api"
	"slipway/api/client"
)

// Servers are the servers of a rack on the loopback interface.
type Servers struct {
	dir, bin string
	all      []*server
}

// server is one process.
type server struct {
	addr string // for clients and agents
	dir  string
	args []string
	cmd  *exec.Cmd
	out  *os.File
	done chan struct{} // closed when the process has ended
}

// addresses are how many a server listens on.
const addresses = 4

// StartServers starts a rack of n servers below an absolute directory, with the slipwayd at bin,
// and returns when all of them have a vote. Close ends them.
func StartServers(ctx context.Context, dir, bin string, n int) (*Servers, error) {
	s := &Servers{dir: dir, bin: bin}
	free, err := freeAddrs(addresses * n)
	if err != nil {
		return nil, err
	}
	for i := range n {
		at := free[addresses*i:]
		m := &server{dir: filepath.Join(dir, fmt.Sprint("server", i+1)), addr: at[0]}
		m.args = []string{"server", "--dir", m.dir, "--rack", "fleet", "--domain", "fleet.test", "--network", "10.192.0.0/10",
			"--addr", at[0], "--registry-addr", at[1], "--raft-addr", at[2], "--gossip-addr", at[3]}
		if i == 0 {
			m.args = append(m.args, "--bootstrap")
		} else {
			m.args = append(m.args, "--join", s.all[0].addr, "--token-file", s.file("join-server.token"))
		}
		s.all = append(s.all, m)
		if err := s.start(m); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		if err := s.await(ctx, i+1); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// freeAddrs returns addresses that nobody listens on, below the ports that connections get.
func freeAddrs(n int) (out []string, err error) {
	for range 100 * n {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(10000+rand.IntN(20000)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		defer l.Close() // all are held until the last is found
		if out = append(out, addr); len(out) == n {
			return out, nil
		}
	}
	return nil, fmt.Errorf("no %d ports are free", n)
}

func (s *Servers) start(m *server) (err error) {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	if m.out, err = os.OpenFile(filepath.Join(m.dir, "out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	m.cmd = exec.Command(s.bin, m.args...)
	m.cmd.Stdout, m.cmd.Stderr = m.out, m.out
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // whatever becomes of the test
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("start a server: %w", err)
	}
	m.done = make(chan struct{})
	go func() {
		_ = m.cmd.Wait() // how it ended stands in its output
		close(m.done)
	}()
	return nil
}

// await waits until n servers have a vote.
func (s *Servers) await(ctx context.Context, n int) error {
	for {
		votes, err := s.votes(ctx)
		if err == nil && votes == n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d servers have a vote: %w\n%s", votes, n, errors.Join(err, ctx.Err()), s.Output())
		case <-s.all[n-1].done:
			return fmt.Errorf("a server has ended\n%s", s.Output())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Servers) votes(ctx context.Context) (votes int, err error) {
	rack, err := s.Client()
	if err != nil {
		return 0, err
	}
	defer rack.Close()
	servers, err := rack.Servers(ctx)
	for _, m := range servers {
		if m.Voter && m.Status == "alive" {
			votes++
		}
	}
	return votes, err
}

// file is a file of the first server.
func (s *Servers) file(name string) string { return filepath.Join(s.all[0].dir, name) }

// Addrs returns where clients and agents dial.
func (s *Servers) Addrs() (out []string) {
	for _, m := range s.all {
		out = append(out, m.addr)
	}
	return out
}

// Client returns a client with the rights of an administrator.
func (s *Servers) Client() (*client.Client, error) {
	ca, err := os.ReadFile(s.file("machine/trust.pem"))
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(s.file("admin.token"))
	if err != nil {
		return nil, err
	}
	addrs := s.Addrs()
	return client.Dial(context.Background(), client.Context{Addr: addrs[0], Others: addrs[1:], CA: string(ca), Token: string(token)})
}

// PeakMemory is the most memory that the largest server has had.
func (s *Servers) PeakMemory() (api.Bytes, error) {
	var most api.Bytes
	for _, m := range s.all {
		peak, err := status(m.cmd.Process.Pid, "VmHWM:")
		if err != nil {
			return 0, err
		}
		most = max(most, peak)
	}
	return most, nil
}

// Busy is the time that the servers have had a processor, of all together.
func (s *Servers) Busy() (total time.Duration) {
	for _, m := range s.all {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
		fields := strings.Fields(string(text))
		if err != nil || len(fields) < 15 {
			continue
		}
		for _, ticks := range fields[13:15] {
			n, _ := strconv.Atoi(ticks) // the kernel writes numbers
			total += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return total
}

// status reads an amount of memory that the kernel tells of a process.
func status(pid int, name string) (api.Bytes, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			return api.Bytes(n) << 10, err
		}
	}
	return 0, fmt.Errorf("the kernel tells no %s of process %d", name, pid)
}

// Output returns the end of what each server printed.
func (s *Servers) Output() string {
	var b strings.Builder
	for _, m := range s.all {
		text, err := os.ReadFile(filepath.Join(m.dir, "out"))
		if err != nil {
			fmt.Fprintln(&b, err)
		}
		fmt.Fprintf(&b, "== %s\n%s\n", m.dir, text[max(0, len(text)-4000):])
	}
	return b.String()
}

// Close ends all servers; their directories stay.
func (s *Servers) Close() error {
	for _, m := range s.all {
		if m.done == nil {
			continue
		}
		_ = m.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-m.done:
		case <-time.After(20 * time.Second):
			_ = m.cmd.Process.Kill()
			<-m.done
		}
		m.out.Close()
	}
	return nil
}
