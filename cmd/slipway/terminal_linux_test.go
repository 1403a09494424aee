package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"slipway/api"
)

// terminalPair is a terminal, and the far end of it: what a user sees and types.
type terminalPair struct {
	t      *testing.T
	user   *os.File
	tty    *os.File
	screen screen
}

func newTerminal(t *testing.T, rows, cols uint16) *terminalPair {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &terminalPair{t: t, user: user}
	p.control(func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0) })
	n := 0
	p.control(func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.tty = tty
	p.resize(rows, cols)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(&p.screen, user) // ends with an error when the terminal is closed
	}()
	t.Cleanup(func() {
		user.Close() // ends what still reads from the terminal
		<-ended
		tty.Close()
	})
	return p
}

// control asks something of the far end. Its descriptor stays one that Close can interrupt.
func (p *terminalPair) control(do func(fd int) error) {
	p.t.Helper()
	raw, err := p.user.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil || err != nil {
		p.t.Fatal(e, err)
	}
}

func (p *terminalPair) resize(rows, cols uint16) {
	p.t.Helper()
	p.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
}

func (p *terminalPair) keys(text string) {
	p.t.Helper()
	if _, err := p.user.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// modes are the settings of the terminal.
func (p *terminalPair) modes() unix.Termios {
	p.t.Helper()
	m, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *m
}

// A deployment draws over itself on a terminal, and nowhere else.
func TestProgressOnATerminal(t *testing.T) {
	c := newCLI(t)
	dir := c.app("hello", "slow")
	tty := newTerminal(t, 24, 80)
	c.agent.hold(true)
	j := c.start(tty.tty, tty.tty, "deploy", dir)
	tty.screen.await(t, " on node1: starting")
	c.agent.hold(false)
	if code := j.end(t); code != 0 {
		t.Fatalf("exit code %d\n%s", code, tty.screen.String())
	}
	tty.screen.await(t, "slow v1 is live (1/1, ")
	if !strings.Contains(tty.screen.String(), "\x1b[1A\x1b[J") {
		t.Errorf("nothing was drawn over:\n%q", tty.screen.String())
	}

	for name, deploy := range map[string]func() string{
		"a dumb terminal": func() string {
			dumb := newTerminal(t, 24, 80)
			env := c.env
			c.env = append(append([]string{}, env...), "TERM=dumb")
			defer func() { c.env = env }()
			if code := c.start(dumb.tty, dumb.tty, "deploy", dir).end(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
			dumb.screen.await(t, " is live (1/1, ")
			return dumb.screen.String()
		},
		"a pipe": func() string { return c.must("deploy", dir) },
	} {
		if out := deploy(); strings.Contains(out, "\x1b") || !strings.Contains(out, " on node1: ready") {
			t.Errorf("on %s:\n%q", name, out)
		}
	}
}

// The board is never higher than the terminal, and leaves out what is ready first.
func TestBoardFitsTheTerminal(t *testing.T) {
	tty := newTerminal(t, 6, 40)
	b := &board{w: tty.tty, term: tty.tty}
	u := api.DeploymentUpdate{Deployment: api.Deployment{Release: "R"}}
	for i := range 20 {
		p := api.ProcessInfo{ID: api.ProcessID(fmt.Sprintf("p%02d", i)), Service: "web", Release: "R", Node: "node1", Status: "running", Ready: true}
		if i == 17 {
			p.Ready, p.Status, p.Message = false, "unhealthy", "GET /\x1b[2J: a reason that is too long for the terminal"
		}
		u.Processes = append(u.Processes, p)
	}
	b.show(u)
	tty.screen.await(t, "more\r\n")
	first := tty.screen.String()
	if lines := strings.Split(strings.TrimSuffix(first, "\r\n"), "\r\n"); len(lines) != 5 ||
		!strings.HasPrefix(lines[0], "web p17 on node1: unhealthy") || len(lines[0]) > 39 || lines[4] != "... and 16 more" {
		t.Errorf("%q", lines)
	}
	b.show(u)
	tty.screen.await(t, first+"\x1b[5A\x1b[J")
}

// A command on a terminal gets one: raw, of the right size, with every key.
func TestExecOnATerminal(t *testing.T) {
	c := newCLI(t)
	c.must("deploy", c.app("hello", "web"))
	for _, args := range [][]string{{"exec", "-a", "hello", "web", "--", "size"}, {"run", "-a", "hello", "web", "--", "size"}} {
		tty := newTerminal(t, 30, 100)
		before := tty.modes()
		j := c.start(tty.tty, tty.tty, args...)
		tty.screen.await(t, "terminal true 30x100\r\n")
		if tty.modes() == before {
			t.Errorf("%s: the terminal is not raw", args[0])
		}
		tty.keys("\x03")
		tty.screen.await(t, `key "\x03"`)
		tty.resize(40, 120)
		if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil { // the terminal is not that of this process
			t.Fatal(err)
		}
		tty.screen.await(t, "now 40x120\r\n")
		tty.keys("q")
		if code := j.end(t); code != 0 {
			t.Errorf("%s: exit code %d\n%s", args[0], code, tty.screen.String())
		}
		if tty.modes() != before {
			t.Errorf("%s: the terminal is left raw", args[0])
		}
	}
	// A pipe on either side means no terminal.
	if out := c.must("exec", "-a", "hello", "web", "--", "size"); !strings.HasPrefix(out, "terminal false 0x0") {
		t.Errorf("%q", out)
	}
}

// A session that breaks leaves the terminal as it was.
func TestTerminalAfterALostSession(t *testing.T) {
	c := newCLI(t)
	c.must("deploy", c.app("hello", "web"))
	tty := newTerminal(t, 24, 80)
	before := tty.modes()
	j := c.start(tty.tty, tty.tty, "exec", "-a", "hello", "web", "--", "hang")
	tty.screen.await(t, "waiting")
	c.door.set(true)
	if code := j.end(t); code != exitUnavailable {
		t.Errorf("exit code %d", code)
	}
	if tty.modes() != before {
		t.Error("the terminal is left raw")
	}
}

// A token is asked for on a terminal, without showing it, and an interrupt ends the question.
func TestLoginOnATerminal(t *testing.T) {
	c := newCLI(t)
	ca := c.write("ca.crt", string(c.ca.PEM())) + "/ca.crt"
	for _, interrupted := range []bool{false, true} {
		tty := newTerminal(t, 24, 80)
		before := tty.modes()
		j := c.start(tty.tty, tty.tty, "login", c.addr, "--ca", ca, "--name", "typed")
		tty.screen.await(t, "Token: ")
		await(t, func() bool { return tty.modes() != before }, func() string { return "the terminal shows what is typed" })
		if interrupted {
			j.cancel()
			if code := j.end(t); code != exitInterrupted || tty.modes() != before {
				t.Errorf("exit code %d, terminal restored: %v", code, tty.modes() == before)
			}
			tty.keys("\n") // lets the read go that was left behind
			continue
		}
		tty.keys(c.tokens["admin"] + "\n")
		if code := j.end(t); code != 0 || strings.Contains(tty.screen.String(), c.tokens["admin"]) {
			t.Errorf("exit code %d\n%s", code, tty.screen.String())
		}
	}
	tty := newTerminal(t, 24, 80)
	if r := c.input(tty.tty, "env", "set", "-a", "hello"); r.code != exitUsage {
		t.Errorf("env set waits for a terminal: %d %s", r.code, r.err)
	}
}

// Nothing asks a question, or waits for one, without a terminal.
func TestNoPromptWithoutATerminal(t *testing.T) {
	c := newCLI(t)
	silent, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	defer hold.Close()
	c.must("apps", "create", "hello")
	for _, args := range [][]string{{"apps", "delete", "hello"}, {"env", "-a", "other"}, {"context", "remove", "viewer"}, {"nodes", "drain", "n1"}} {
		var out screen
		j := c.start(silent, &out, args...)
		j.end(t)
		if strings.Contains(out.String(), "?") {
			t.Errorf("%s asks: %s", strings.Join(args, " "), out.String())
		}
	}
	for _, args := range [][]string{{"env", "set", "-a", "hello"}, {"login", c.addr}} {
		j := c.start(silent, nil, args...) // input that never comes can be interrupted
		j.cancel()
		if code := j.end(t); code != exitInterrupted {
			t.Errorf("%s: exit code %d after an interrupt", strings.Join(args, " "), code)
		}
	}
}
