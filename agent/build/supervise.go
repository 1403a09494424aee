package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/moby/buildkit/client"

	"slipway/api"
)

const (
	startMax = 30 * time.Second
	stopMax  = 10 * time.Second
	deathMax = time.Second
	// stderrKept is how much of the child's last words goes into an error, in bytes.
	stderrKept = 4 << 10
)

// child is a running engine.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer // closing it asks the child to end
	client *client.Client
	stderr *tail
	ended  chan struct{} // closed when the process is gone
	err    error         // how it ended; valid once ended is closed
}

// startChild starts the engine and waits until it serves. The kernel kills it when the calling
// thread ends, so the caller has locked itself to its thread and stays there.
func startChild(ctx context.Context, c Config) (*child, error) {
	if err := c.makeCgroups(); err != nil {
		return nil, err
	}
	config, err := json.Marshal(childConfig{
		Root: c.engineDir(), Socket: c.socket(), Registry: c.Registry, Cgroup: c.Cgroup, CacheMax: c.CacheMax, Deny: c.Deny,
	})
	if err != nil {
		return nil, err
	}
	netns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer netns.Close()
	ready, readyChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()

	ch := &child{cmd: exec.Command(c.Command[0], c.Command[1:]...), stderr: &tail{}, ended: make(chan struct{})} //nolint:gosec // ours
	ch.cmd.ExtraFiles = []*os.File{netns, readyChild}
	ch.cmd.Stderr = ch.stderr
	ch.cmd.Env = append(os.Environ(), "GOMEMLIMIT=512MiB", "BUILDKIT_SESSION_HEALTHCHECK_TIMEOUT=30s")
	ch.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true, // a Ctrl-C at the terminal is for the parent
	}
	stdin, err := ch.cmd.StdinPipe()
	if err == nil {
		err = ch.cmd.Start()
	}
	readyChild.Close()
	if err != nil {
		return nil, fmt.Errorf("start the build engine: %w", err)
	}
	ch.stdin = stdin
	go func() { // ends with the process, which stop waits for
		ch.err = ch.cmd.Wait()
		close(ch.ended)
	}()
	// It waits for its configuration, so that it has done nothing yet.
	if err = joinCgroup(c.engineGroup(), ch.cmd.Process.Pid); err == nil {
		_, err = stdin.Write(append(config, '\n'))
	}
	if err == nil {
		err = awaitReady(ctx, ready)
	}
	if err == nil {
		ch.client, err = client.New(ctx, "unix://"+c.socket())
	}
	if err != nil {
		ch.stop(0)
		return nil, fmt.Errorf("start the build engine: %w: %s", err, ch.stderr)
	}
	return ch, nil
}

// awaitReady reads the byte that the child sends when it serves.
func awaitReady(ctx context.Context, ready *os.File) error {
	deadline := time.Now().Add(startMax)
	if err := ready.SetReadDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	_, err := ready.Read(make([]byte, 1))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF):
		return errors.New("it ended at once")
	}
	return err
}

// stop asks the child to end, kills it after grace, and waits.
func (ch *child) stop(grace time.Duration) {
	if ch.client != nil {
		_ = ch.client.Close()
	}
	_ = ch.stdin.Close()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-ch.ended:
		return
	case <-timer.C:
	}
	_ = ch.cmd.Process.Kill()
	<-ch.ended
}

// endsSoon waits for a child that no longer answers: its namespaces take the kernel a moment.
func (ch *child) endsSoon() bool {
	timer := time.NewTimer(deathMax)
	defer timer.Stop()
	select {
	case <-ch.ended:
		return true
	case <-timer.C:
		return false
	}
}

// lease is the right to use the engine until it is given back.
type lease struct {
	client *client.Client
	child  *child
	// broken is set by a build that lost its connection to the engine.
	broken bool
}

// acquire asks Run for the engine.
type acquire struct{ reply chan acquired }

type acquired struct {
	lease *lease
	err   error
}

// Run starts the engine when a build needs it, and stops it when none has for Config.Idle. It
// blocks until ctx ends and the engine, with every build step, is gone. Builds wait for Run.
func (b *Builder) Run(ctx context.Context) error {
	// Pdeathsig is tied to the thread that starts the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() {
		if err := b.config.removeCgroups(); err != nil {
			b.config.Logger.Warn("build cgroup not removed", "err", err)
		}
	}()

	defer b.rack.CloseIdleConnections()

	s := &supervision{builder: b, idle: time.NewTimer(b.config.Idle)}
	defer s.idle.Stop()
	defer func() {
		if s.child != nil {
			s.child.stop(stopMax)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-b.acquires:
			a.reply <- s.acquire(ctx)
		case l := <-b.releases:
			s.release(l)
		case <-s.ended():
			b.config.Logger.Warn("build engine ended", "err", s.child.err, "stderr", s.child.stderr.String())
			s.drop()
		case <-s.idle.C:
			if s.child != nil && s.users == 0 {
				s.child.stop(stopMax)
				s.drop()
				b.config.Logger.Info("build engine stopped", "idle", b.config.Idle)
			}
		}
	}
}

// supervision is the state of one Run.
type supervision struct {
	builder *Builder
	child   *child // nil while there is none
	users   int    // of child
	idle    *time.Timer
}

func (s *supervision) acquire(ctx context.Context) acquired {
	if s.child == nil {
		started := time.Now()
		ch, err := startChild(ctx, s.builder.config)
		if err != nil {
			return acquired{err: api.Errorf(api.CodeUnavailable, "builder: %w", err)}
		}
		s.child, s.users = ch, 0
		s.builder.awake.Store(true)
		s.builder.config.Logger.Info("build engine started", "dur", time.Since(started))
	}
	s.users++
	return acquired{lease: &lease{client: s.child.client, child: s.child}}
}

func (s *supervision) release(l *lease) {
	if l.child != s.child {
		return // that engine has ended
	}
	if l.broken && l.child.endsSoon() {
		s.drop() // before the next build gets the dead one
		return
	}
	if s.users--; s.users == 0 {
		s.idle.Reset(s.builder.config.Idle)
	}
}

// ended is closed when the child has ended by itself; nil, which blocks, while there is none.
func (s *supervision) ended() <-chan struct{} {
	if s.child == nil {
		return nil
	}
	return s.child.ended
}

func (s *supervision) drop() {
	_ = s.child.client.Close()
	_ = s.child.stdin.Close()
	s.child, s.users = nil, 0
	s.builder.awake.Store(false)
}

// engine returns the engine for one build.
func (b *Builder) engine(ctx context.Context) (*lease, func(), error) {
	a := acquire{reply: make(chan acquired, 1)}
	select {
	case b.acquires <- a:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	got := <-a.reply
	if got.err != nil {
		return nil, nil, got.err
	}
	release := func() {
		select {
		case b.releases <- got.lease:
		case <-got.lease.child.ended: // Run may have gone with it
		}
	}
	return got.lease, release, nil
}

// tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex

	b []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > stderrKept {
		t.b = append(t.b[:0], t.b[len(t.b)-stderrKept:]...)
	}
	return len(p), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}
