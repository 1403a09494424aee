package buildtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/agent/build"
	"slipway/api"
)

// victim is an agent in miniature: it builds something endless, tells so, and when that has
// failed builds something short.
func victim(stdin io.Reader) {
	var v victimConfig
	if err := json.NewDecoder(stdin).Decode(&v); err != nil {
		panic(err)
	}
	b, err := build.New(v.Config)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx) })

	endless, _ := job(source{"Dockerfile": "FROM busybox\nRUN echo has begun && sleep " + v.Marker + "\n"})
	endless.Log = func(_, text string) {
		if strings.HasSuffix(text, " has begun") {
			fmt.Println("begun")
		}
	}
	_, err = b.Build(ctx, endless)
	fmt.Println("failed", api.CodeOf(err))
	short, out := job(source{"Dockerfile": "FROM busybox\nRUN echo again\n"})
	if _, err := b.Build(ctx, short); err != nil {
		fmt.Println("second build:", err, out)
	} else {
		fmt.Println("recovered")
	}
	cancel()
	wg.Wait()
}

type victimConfig struct {
	build.Config
	// Marker is how long the endless step sleeps, in seconds: a number that nobody else has.
	Marker string
}

// startVictim returns it with its endless step running.
func startVictim(t *testing.T) (cmd *exec.Cmd, lines *bufio.Scanner, v victimConfig) {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("needs root and takes seconds")
	}
	r := newRack(t)
	v = victimConfig{r.config(buildRoot(t), cgroupName(t)), fmt.Sprintf("8%d%d", os.Getpid(), time.Now().UnixNano()%1e6)}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("/proc/self/exe", "victim")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(b), os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines = bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "begun" {
		t.Fatalf("victim did not begin: %q", lines.Text())
	}
	if len(processes(t, "cmdline", v.Marker)) == 0 {
		t.Fatal("the step is not to be seen in /proc")
	}
	return cmd, lines, v
}

// processes lists the pids of which a file in /proc holds text.
func processes(t *testing.T, file, text string) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		b, err := os.ReadFile(filepath.Join(d, file))
		if err != nil || !bytes.Contains(b, []byte(text)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// eventually waits until check returns nil.
func eventually(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", within, err)
		}
		<-tick.C
	}
}

func TestKilledAgentLeavesNothing(t *testing.T) {
	t.Parallel()
	cmd, _, v := startVictim(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	eventually(t, 5*time.Second, func() error {
		if p := processes(t, "cmdline", v.Marker); len(p) > 0 {
			return fmt.Errorf("the step still runs: %v", p)
		}
		if p := processes(t, "mountinfo", v.Root); len(p) > 0 {
			return fmt.Errorf("mounts are left in the namespaces of %v", p)
		}
		return nil
	})
	// What is left are files and empty cgroups, which the next builder takes over.
	b, err := build.New(v.Config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	j, out := job(source{"Dockerfile": "FROM busybox\nRUN echo again\n"})
	if _, err := b.Build(t.Context(), j); err != nil {
		t.Errorf("build after the kill: %v\n%s", err, out)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + v.Cgroup + "*"); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
}

func TestKilledEngineIsReplaced(t *testing.T) {
	t.Parallel()
	cmd, lines, v := startVictim(t)
	engine := processes(t, "stat", fmt.Sprintf(" S %d ", cmd.Process.Pid))
	if len(engine) != 1 {
		t.Fatalf("children of the victim: %v", engine)
	}
	if err := syscall.Kill(engine[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"failed " + string(api.CodeUnavailable), "recovered"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("victim says %q, want %q", lines.Text(), want)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if p := processes(t, "cmdline", v.Marker); len(p) > 0 {
		t.Fatalf("the step still runs: %v", p)
	}
}

func TestCancelKillsSteps(t *testing.T) {
	t.Parallel()
	b := newBuilder(t, newRack(t))
	marker := fmt.Sprintf("9%d%d", os.Getpid(), time.Now().UnixNano()%1e6)
	j, _ := job(source{"Dockerfile": "FROM busybox\nRUN echo has begun && sleep " + marker + "\n"})
	ctx, cancel := context.WithCancelCause(t.Context())
	var cancelled time.Time
	enough := errors.New("enough")
	j.Log = func(_, text string) {
		if strings.HasSuffix(text, " has begun") {
			cancelled = time.Now()
			cancel(enough)
		}
	}

	_, err := b.Build(ctx, j)
	if !errors.Is(err, enough) {
		t.Fatalf("error %v does not tell the cause", err)
	}
	eventually(t, 3*time.Second, func() error {
		if p := processes(t, "cmdline", marker); len(p) > 0 {
			return fmt.Errorf("the step still runs: %v", p)
		}
		return nil
	})
	t.Logf("cancelled build and step ended after %s", time.Since(cancelled))
}

func TestConcurrentBuildsOfTheSameSource(t *testing.T) {
	t.Parallel()
	b := newBuilder(t, newRack(t))
	var wg sync.WaitGroup
	digests := make(chan string, 4)
	for range cap(digests) {
		wg.Go(func() {
			j, out := job(source{"Dockerfile": "FROM busybox\nRUN head -c 16 /dev/urandom > /random\n"})
			got, err := b.Build(t.Context(), j)
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			digests <- got["web"].Digest
		})
	}
	wg.Wait()
	close(digests)
	first := <-digests
	for d := range digests {
		if d != first {
			t.Errorf("the step ran twice: %s and %s", first, d)
		}
	}
}

func TestIdleEngineStops(t *testing.T) {
	t.Parallel()
	b := newBuilder(t, newRack(t), func(c *build.Config) { c.Idle = 10 * time.Millisecond })
	s := source{"Dockerfile": "FROM busybox\nRUN head -c 16 /dev/urandom > /random\n"}
	var digests []string
	for range 2 {
		j, out := job(s)
		got, err := b.Build(t.Context(), j)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		digests = append(digests, got["web"].Digest)
		eventually(t, 10*time.Second, func() error {
			if !b.Awake() {
				return nil
			}
			return errors.New("the engine still runs")
		})
	}
	if digests[0] != digests[1] {
		t.Errorf("the cache did not outlive the engine: %v", digests)
	}
}
