package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/runtimetest"
)

// leftOf lists what the machine has of a container.
func (m *machine) leftOf(t *testing.T, id api.ProcessID) string {
	t.Helper()
	var b strings.Builder
	for pid, args := range processes(t) {
		if strings.Contains(args, m.socket()) && strings.Contains(args, " "+string(id)+" ") || strings.HasPrefix(args, "/guest out "+string(id)+" ") {
			fmt.Fprintf(&b, "process %d %s\n", pid, args)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, m.dir) && strings.Contains(line, "/"+string(id)+"/") {
			b.WriteString("mount " + line)
		}
	}
	for _, pattern := range []string{
		"/sys/fs/cgroup/*/" + m.cgroup + "/" + string(id), "/sys/fs/cgroup/" + m.cgroup + "/" + string(id), "/run/containerd/runc/" + m.cgroup + "/" + string(id),
		m.dir + "/engine/files/" + string(id), m.engine.shimSocket(id),
	} {
		found, _ := filepath.Glob(pattern) // the pattern is well formed
		for _, f := range found {
			fmt.Fprintf(&b, "file %s\n", f)
		}
	}
	if _, err := m.engine.client.SnapshotService(snapshotter).Stat(t.Context(), string(id)); !errdefs.IsNotFound(err) {
		fmt.Fprintf(&b, "snapshot, %v\n", err)
	}
	if c, err := m.engine.Inspect(t.Context(), id); api.CodeOf(err) != api.CodeNotFound {
		fmt.Fprintf(&b, "container %+v, %v\n", c, err)
	}
	return b.String()
}

// A life takes about 150 ms, most of it in Create.
const (
	rounds = 12
	step   = 12 * time.Millisecond
)

// TestDaemonKilledAtAnyMoment kills containerd in the middle of a container's life, earlier and
// later. Whatever it left, Remove takes.
func TestDaemonKilledAtAnyMoment(t *testing.T) {
	m := newMachine(t)
	image := runtimetest.Image{}
	image.Entrypoint = []string{"/guest"}
	ref := m.push(t, image)
	if _, err := m.engine.Pull(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		id := api.ProcessID(fmt.Sprintf("pcrash%02d", i))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var wg sync.WaitGroup
		var life []string
		wg.Go(func() {
			note := func(what string, err error) bool {
				life = append(life, fmt.Sprintf("%s: %v", what, err))
				return err == nil
			}
			if note("create", m.engine.Create(ctx, runtime.Spec{ID: id, Image: ref, Command: []string{"out", string(id), "stay"}, Log: runtime.Log{Dir: m.dir + "/log-" + string(id)}})) {
				_, err := m.engine.Start(ctx, id)
				if note("start", err) {
					note("remove", m.engine.Remove(ctx, id))
				}
			}
		})
		time.Sleep(time.Duration(i) * step) // the moment is what is tested
		m.kill()
		cancel()
		wg.Wait()
		m.launch(t)
		deadline := time.Now().Add(20 * time.Second)
		var left string
		var err error
		for {
			if err = m.engine.Remove(t.Context(), id); err == nil {
				if left = m.leftOf(t, id); left == "" {
					break
				}
			}
			if time.Now().After(deadline) {
				t.Errorf("killed after %s (%s): remove says %v and leaves\n%s", time.Duration(i)*step, strings.Join(life, "; "), err, left)
				break
			}
			time.Sleep(20 * time.Millisecond) // polls: the daemon cleans up, the client connects again
		}
	}
	m.kill()
	m.launch(t) // it drops its own directories of what it has lost when it starts
	left, _ := filepath.Glob(m.dir + "/state/io.containerd.runtime.v2.task/*/*")
	for _, dir := range left {
		// One that it was killed over before it noted the runtime it keeps until the machine restarts:
		// it does not know whom to ask.
		if _, err := os.Stat(dir + "/runtime"); err == nil {
			t.Errorf("the daemon keeps %s", dir)
		}
	}
}
