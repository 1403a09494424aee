package hosts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// roleKey is the variable that makes the test's program play the part of another program.
const roleKey = "SLIPWAY_HOSTS_ROLE"

func TestMain(m *testing.M) {
	role := map[string]func(args []string) error{"echo": echo, "make": makeRig, "change": changeRig, "delay": delayHost}[os.Getenv(roleKey)]
	if role == nil {
		os.Exit(m.Run())
	}
	if err := role(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// echo is a server for hosts: it says where it listens, and sends back what it gets.
func echo(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Println(name, os.Getpid(), l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go io.Copy(c, c)
	}
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 || testing.Short() {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft")
	}
}

// newRig makes a rig of n hosts; the test's end closes it and looks for what is left.
func newRig(t *testing.T, n int) *Rig {
	t.Helper()
	needsRoot(t)
	dir := t.TempDir()
	before := own(t)
	r, err := New(Config{Dir: dir, Hosts: n, Bound: true})
	if err != nil {
		t.Fatal(err)
	}
	ids := namespaces(t, r)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		nothingLeft(t, dir, ids)
		if after := own(t); after != before {
			t.Errorf("this program was in\n%sand is in\n%s", before, after)
		}
	})
	return r
}

// own says in which namespaces and control groups this program is.
func own(t *testing.T) string {
	t.Helper()
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	return string(groups) + strings.Join(links("/proc/self/ns/*"), "\n") + "\n"
}

// links reads where symbolic links lead; those that vanish meanwhile lead nowhere.
func links(pattern string) (out []string) {
	files, _ := filepath.Glob(pattern)
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil {
			out = append(out, to)
		}
	}
	return out
}

// namespaces lists those that a rig has of its own. They are held open until the test's end, so
// that no other gets their numbers.
func namespaces(t *testing.T, r *Rig) map[string]bool {
	t.Helper()
	s, err := load(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, ns := range links("/proc/self/ns/*") {
		own[ns] = true
	}
	pids := []int{s.Switch.PID}
	for _, h := range s.Hosts {
		pids = append(pids, h.Pause.PID)
	}
	out := map[string]bool{}
	for _, pid := range pids {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/ns/*", pid))
		for _, path := range files {
			ns, err := os.Readlink(path)
			if err != nil || own[ns] || out[ns] {
				continue
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			out[ns] = true
		}
	}
	if want := 1 + 6*r.Len(); len(out) != want {
		t.Errorf("%d hosts have %d namespaces, want %d: %v", r.Len(), len(out), want, out)
	}
	return out
}

// nothingLeft checks that the machine is as before the rig. A child of a program that has ended
// waits for the machine's first process to reap it, and a host's first process for the child.
func nothingLeft(t *testing.T, dir string, namespaces map[string]bool) {
	t.Helper()
	err := waitFor(func() error {
		if left := leftovers(t, dir, namespaces); left != "" {
			return errors.New(left)
		}
		return nil
	})
	if err != nil {
		t.Errorf("left behind:\n%v", err)
	}
}

// leftovers lists what a rig that was closed has left on the machine.
func leftovers(t *testing.T, dir string, namespaces map[string]bool) string {
	t.Helper()
	var b strings.Builder
	s := &state{Dir: dir}
	if plan, err := (Config{Dir: dir, Hosts: 1}).plan(); err != nil {
		t.Error(err)
	} else {
		s = plan
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		cmdline, _ := os.ReadFile(p + "/cmdline")
		environ, _ := os.ReadFile(p + "/environ")
		mounts, _ := os.ReadFile(p + "/mountinfo")
		for _, ns := range links(p + "/ns/*") {
			if namespaces[ns] {
				fmt.Fprintf(&b, "%s %q is in %s\n", p, cmdline, ns)
			}
		}
		if p != fmt.Sprintf("/proc/%d", os.Getpid()) && strings.Contains(string(cmdline)+string(environ), dir+"\x00") {
			fmt.Fprintf(&b, "%s %q\n", p, cmdline)
		}
		if strings.Contains(string(mounts), dir+"/") {
			fmt.Fprintf(&b, "%s %q sees a mount of %s\n", p, cmdline, dir)
		}
	}
	if _, err := netlink.LinkByName(s.uplinkName()); err == nil {
		fmt.Fprintln(&b, "link", s.uplinkName())
	}
	for _, pattern := range []string{cgroupRoot + s.rigCgroup(), cgroupRoot + "/*" + s.rigCgroup(), filepath.Join(dir, stateDir)} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			fmt.Fprintln(&b, "path", f)
		}
	}
	return b.String()
}

// within calls f in the network of a host: sockets that it makes belong to the host for good.
func within(h *Host, f func() error) error {
	s, err := load(h.rig.dir)
	if err != nil {
		return err
	}
	return onThread(func() error {
		if err := enter(s.Hosts[h.index].Pause, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// inHost returns what f makes in the network of a host.
func inHost[T any](t *testing.T, h *Host, f func() (T, error)) (out T) {
	t.Helper()
	err := within(h, func() (err error) {
		out, err = f()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", h.Name(), err)
	}
	return out
}

// radio is a UDP socket in a host.
type radio struct {
	t *testing.T
	*net.UDPConn
}

const radioPort = 4000

func newRadio(t *testing.T, h *Host) *radio {
	t.Helper()
	c := inHost(t, h, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Addr(), radioPort)))
	})
	t.Cleanup(func() { c.Close() })
	return &radio{t: t, UDPConn: c}
}

func radios(t *testing.T, r *Rig) (out []*radio) {
	t.Helper()
	for _, h := range r.Hosts() {
		out = append(out, newRadio(t, h))
	}
	return out
}

// hears waits until a message gets from one host to another, which it does at once where the
// network is whole: addresses may have to be asked for again.
func (x *radio) hears(from *radio, what string) {
	x.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		from.say(x, what)
		if x.got(what) {
			return
		}
	}
	x.t.Fatalf("%s: %v does not hear %v", what, x.LocalAddr(), from.LocalAddr())
}

// deafTo checks that no message gets from one host to another.
func (x *radio) deafTo(from *radio, what string) {
	x.t.Helper()
	for range 5 {
		from.say(x, what)
	}
	if x.got(what) {
		x.t.Fatalf("%s: %v hears %v", what, x.LocalAddr(), from.LocalAddr())
	}
}

// got reads messages until a certain one comes, or none for a tenth of a second.
func (x *radio) got(what string) bool {
	x.t.Helper()
	for {
		switch x.next(100 * time.Millisecond) {
		case what:
			return true
		case "":
			return false
		}
	}
}

func (x *radio) say(to *radio, what string) {
	x.t.Helper()
	_, err := x.WriteTo([]byte(what), to.LocalAddr())
	if err != nil && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EPERM) {
		x.t.Fatalf("%s: %v", what, err)
	}
}

// next is the next message within a time, "" if there is none.
func (x *radio) next(within time.Duration) string {
	x.t.Helper()
	x.SetReadDeadline(time.Now().Add(within))
	b := make([]byte, 2000)
	n, _, err := x.ReadFrom(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		x.t.Fatal(err)
	}
	return string(b[:n])
}

// self is a command that runs this program in a role, in a host or, without one, outside.
func self(ctx context.Context, h *Host, role string, args ...string) *Cmd {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := &Cmd{Cmd: exec.CommandContext(ctx, exe, args...)}
	if h != nil {
		c = h.Command(ctx, exe, args...)
	}
	c.Env = append(os.Environ(), roleKey+"="+role)
	c.Stderr = os.Stderr
	return c
}

// server starts an echo server in a host, and returns what it says of itself.
func server(t *testing.T, h *Host) (c *Cmd, name string, inner int, addr string) {
	t.Helper()
	c = self(context.Background(), h, "echo", netip.AddrPortFrom(h.Addr(), 0).String())
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &name, &inner, &addr)
	}
	if err != nil {
		t.Fatalf("server in %s says %q: %v", h.Name(), line, err)
	}
	return c, name, inner, addr
}

// output runs a command in a host and returns what it prints.
func output(t *testing.T, h *Host, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := h.Command(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %q: %v\n%s", h.Name(), args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// dial connects from a host, or from outside, and checks that the server answers.
func dial(t *testing.T, h *Host, addr string) net.Conn {
	t.Helper()
	f := func() (net.Conn, error) { return net.DialTimeout("tcp", addr, 5*time.Second) }
	var c net.Conn
	if h != nil {
		c = inHost(t, h, f)
	} else {
		var err error
		if c, err = f(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { c.Close() })
	ping(t, c)
	return c
}

func ping(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 4)
	_, err := c.Write([]byte("ping"))
	if err == nil {
		_, err = io.ReadFull(c, b)
	}
	if err != nil || string(b) != "ping" {
		t.Fatalf("%v answers %q, %v", c.RemoteAddr(), b, err)
	}
}
