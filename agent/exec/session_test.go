package exec

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"slipway/api"
	"slipway/api/pb"
	"slipway/runtime"
	"slipway/runtime/fake"
)

// wire is a stream whose client is the test.
type wire struct {
	in chan *pb.Frame // closed when the client has gone

	mu     sync.Mutex
	stdout bytes.Buffer
	stderr bytes.Buffer
	code   int // -1 without an exit frame
	widest int // bytes of the largest frame
}

func newWire() *wire { return &wire{in: make(chan *pb.Frame), code: -1} }

func (w *wire) Recv() (*pb.Frame, error) {
	f, ok := <-w.in
	if !ok {
		return nil, io.EOF
	}
	return f, nil
}

func (w *wire) Send(f *pb.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch k := f.Kind.(type) {
	case *pb.Frame_Stdout:
		w.stdout.Write(k.Stdout)
		w.widest = max(w.widest, len(k.Stdout))
	case *pb.Frame_Stderr:
		w.stderr.Write(k.Stderr)
		w.widest = max(w.widest, len(k.Stderr))
	case *pb.Frame_Exit:
		w.code = int(k.Exit.Code)
	default:
		return fmt.Errorf("unexpected frame %v", f)
	}
	return nil
}

func (w *wire) got() (stdout, stderr string, code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stdout.String(), w.stderr.String(), w.code
}

func stdin(text string) *pb.Frame { return &pb.Frame{Kind: &pb.Frame_Stdin{Stdin: []byte(text)}} }

// program is what runs in the fake's containers: the first argument says what to do.
func program(ctx context.Context, p *fake.Process) int {
	switch p.Args[0] {
	case "echo":
		fmt.Fprint(p.Stdout, strings.Join(p.Args[1:], " "))
		fmt.Fprint(p.Stderr, "done")
		return 7
	case "cat":
		_, _ = io.Copy(p.Stdout, p.Stdin) // ends with its input
		return 0
	case "flood":
		_, _ = p.Stdout.Write(bytes.Repeat([]byte("x"), 1<<20)) // the client's wire takes all
		return 0
	case "sizes":
		for range 2 {
			s := <-p.Sizes
			fmt.Fprintf(p.Stdout, "%dx%d ", s.Rows, s.Cols)
		}
		return 0
	}
	return fake.UntilTerm(ctx, p)
}

// start returns an engine with a running container "p1"; an attachable one if command is given.
func start(t *testing.T, command ...string) *fake.Engine {
	t.Helper()
	e := fake.New()
	e.AddImage("r/i@sha256:1", fake.Image{Info: runtime.ImageInfo{Cmd: []string{"wait"}}, Program: program})
	_, err := e.Pull(t.Context(), "r/i@sha256:1", nil)
	must(t, err)
	must(t, e.Create(t.Context(), runtime.Spec{ID: "p1", Image: "r/i@sha256:1", Command: command, Attach: len(command) > 0}))
	_, err = e.Start(t.Context(), "p1")
	must(t, err)
	return e
}

// serve runs a session in the background.
func serve(t *testing.T, e Engine, open *pb.Open, w *wire) <-chan error {
	ended := make(chan error, 1)
	open.Process = "p1"
	go func() { ended <- Serve(t.Context(), e, open, w) }()
	return ended
}

func TestExecSendsOutputAndExitCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := start(t), newWire()
		defer e.Close()
		defer close(w.in)
		must(t, <-serve(t, e, &pb.Open{Kind: "exec", Command: []string{"echo", "a", "b"}}, w))
		if out, errs, code := w.got(); out != "a b" || errs != "done" || code != 7 {
			t.Errorf("stdout %q, stderr %q, code %d", out, errs, code)
		}
		big := newWire()
		defer close(big.in)
		must(t, <-serve(t, e, &pb.Open{Kind: "exec", Command: []string{"flood"}}, big))
		if out, _, code := big.got(); len(out) != 1<<20 || code != 0 || big.widest > chunk {
			t.Errorf("%d bytes came, code %d, the largest frame has %d", len(out), code, big.widest)
		}
	})
}

func TestExecGetsItsInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := start(t), newWire()
		defer e.Close()
		ended := serve(t, e, &pb.Open{Kind: "exec", Command: []string{"cat"}, Stdin: true}, w)
		for _, text := range []string{"one ", strings.Repeat("two ", 50000)} {
			w.in <- stdin(text)
		}
		w.in <- &pb.Frame{Kind: &pb.Frame_StdinClose{StdinClose: true}}
		must(t, <-ended)
		close(w.in)
		if out, _, code := w.got(); out != "one "+strings.Repeat("two ", 50000) || code != 0 {
			t.Errorf("%d bytes came back, code %d", len(out), code)
		}
		none := newWire()
		defer close(none.in)
		must(t, <-serve(t, e, &pb.Open{Kind: "exec", Command: []string{"cat"}}, none))
		if out, _, code := none.got(); out != "" || code != 0 {
			t.Errorf("without input: %q, code %d", out, code)
		}
	})
}

func TestExecFollowsTheTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := start(t), newWire()
		defer e.Close()
		defer close(w.in)
		ended := serve(t, e, &pb.Open{Kind: "exec", Command: []string{"sizes"}, Tty: true, Rows: 24, Cols: 80}, w)
		synctest.Wait()
		w.in <- &pb.Frame{Kind: &pb.Frame_Resize{Resize: &pb.Resize{Rows: 50, Cols: 132}}}
		must(t, <-ended)
		if out, _, _ := w.got(); out != "24x80 50x132 " {
			t.Errorf("the process saw %q", out)
		}
	})
}

// TestClientThatGoesEndsItsSession also shows that nothing stays behind: a bubble does not end
// while a goroutine in it is blocked.
func TestClientThatGoesEndsItsSession(t *testing.T) {
	for name, command := range map[string][]string{"a process that runs": {"wait"}, "one that reads": {"cat"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, w := start(t), newWire()
				defer e.Close()
				ended := serve(t, e, &pb.Open{Kind: "exec", Command: command, Stdin: true}, w)
				w.in <- stdin("hello")
				synctest.Wait()
				close(w.in)
				if err := <-ended; err == nil {
					t.Error("the session ended well")
				}
				if _, _, code := w.got(); code != -1 {
					t.Errorf("an exit code was sent: %d", code)
				}
			})
		})
	}
}

func TestInputThatNobodyReadsEndsWithTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := start(t), newWire()
		defer e.Close()
		ended := serve(t, e, &pb.Open{Kind: "exec", Command: []string{"wait"}, Stdin: true}, w)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range 100 { // more than any pipe holds
				w.in <- stdin(strings.Repeat("x", 32<<10))
			}
			close(w.in)
		}()
		synctest.Wait()
		must(t, e.Signal(t.Context(), "p1", syscall.SIGKILL))
		if err := <-ended; err != nil {
			t.Errorf("the session ended with %v", err)
		}
		<-sent
		if _, _, code := w.got(); code != 137 {
			t.Errorf("code %d", code)
		}
	})
}

func TestAttachEndsWithoutAnExitFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := start(t, "cat"), newWire()
		defer e.Close()
		ended := serve(t, e, &pb.Open{Kind: "attach", Stdin: true}, w)
		w.in <- stdin("typed")
		w.in <- &pb.Frame{Kind: &pb.Frame_StdinClose{StdinClose: true}}
		must(t, <-ended)
		close(w.in)
		if out, _, code := w.got(); out != "typed" || code != -1 {
			t.Errorf("got %q, code %d", out, code)
		}
		late := newWire()
		defer close(late.in)
		if err := <-serve(t, e, &pb.Open{Kind: "attach"}, late); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("attach to one that has ended: %v", err)
		}
	})
}

func TestSessionsThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t)
		defer e.Close()
		try := func(open *pb.Open) api.Code {
			w := newWire()
			defer close(w.in)
			return api.CodeOf(<-serve(t, e, open, w))
		}
		if code := try(&pb.Open{Kind: "format"}); code != api.CodeInvalid {
			t.Errorf("an unknown kind: %q", code)
		}
		if code := try(&pb.Open{Kind: "exec"}); code != api.CodeInvalid {
			t.Errorf("without a command: %q", code)
		}
		must(t, e.Signal(t.Context(), "p1", syscall.SIGKILL))
		synctest.Wait()
		for _, kind := range []string{"exec", "copy_in", "copy_out"} {
			if code := try(&pb.Open{Kind: kind, Command: []string{"x"}, Path: "/"}); code != api.CodeConflict {
				t.Errorf("%s in one that has ended: %q", kind, code)
			}
		}
	})
}

// chrooted is an engine whose only container is a process of the test's own in another root.
type chrooted struct {
	*fake.Engine
	pids []int // what Inspect says, one call after the other
}

func (c *chrooted) Inspect(context.Context, api.ProcessID) (runtime.Container, error) {
	pid := c.pids[0]
	if len(c.pids) > 1 {
		c.pids = c.pids[1:]
	}
	return runtime.Container{ID: "p1", State: runtime.ContainerRunning, Pid: pid}, nil
}

func TestCopiesReachTheRootOfTheProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	busybox, err := os.ReadFile("/bin/busybox")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "busybox"), busybox, 0o755))
	cmd := exec.Command("/busybox", "sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	must(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()

	w := newWire()
	ended := serve(t, &chrooted{pids: []int{cmd.Process.Pid}}, &pb.Open{Kind: "copy_in", Path: "/data"}, w)
	w.in <- stdin(archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "file"}).String())
	w.in <- &pb.Frame{Kind: &pb.Frame_StdinClose{StdinClose: true}}
	must(t, <-ended)
	close(w.in)
	if b, err := os.ReadFile(dir + "/data/file"); string(b) != "new" {
		t.Errorf("in the root: %q, %v", b, err)
	}
	back := newWire()
	defer close(back.in)
	must(t, <-serve(t, &chrooted{pids: []int{cmd.Process.Pid}}, &pb.Open{Kind: "copy_out", Path: "/data"}, back))
	if got := names(t, &back.stdout); strings.Join(got, " ") != "data/ data/file" || back.code != 0 {
		t.Errorf("copied out: %q, code %d", got, back.code)
	}
	other := newWire()
	defer close(other.in)
	err = <-serve(t, &chrooted{pids: []int{cmd.Process.Pid, 1}}, &pb.Open{Kind: "copy_out", Path: "/data"}, other)
	if api.CodeOf(err) != api.CodeConflict || other.stdout.Len() > 0 {
		t.Errorf("a process that has changed its number: %v, %d bytes", err, other.stdout.Len())
	}
}
