package containerd

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"slipway/api"
	"slipway/e2e/images"
	"slipway/runtime"
	"slipway/runtime/runtimetest"
)

// registryHost stands for the test's registry, as api.RackHost does for a rack's.
const registryHost = "registry.test"

// machine is a containerd and a registry of the test's own.
type machine struct {
	test   *testing.T // the one that it lives as long as
	dir    string
	cgroup string // the namespace as well
	engine *Engine
	daemon *exec.Cmd
	web    *httptest.Server

	mu      sync.Mutex
	pushed  map[string]string                             // by the image as text: its ref
	configs map[string]string                             // by ref: the digest of its configuration
	gets    map[string]int                                // by path
	answer  func(http.ResponseWriter, *http.Request) bool // true if it has answered in place of the registry
	base    v1.Image
}

// newMachine starts containerd with a socket, root, state and namespace of its own. The end of
// the test stops it and compares the machine with what it was.
func newMachine(t *testing.T) *machine {
	t.Helper()
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("needs root, containerd and time")
	}
	dir, err := os.MkdirTemp("", "slwrt")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{
		test: t, dir: dir, cgroup: filepath.Base(dir), pushed: map[string]string{}, configs: map[string]string{}, gets: map[string]int{},
	}
	if before := m.traces(t); before != "" {
		t.Fatalf("%s is not new:\n%s", dir, before)
	}
	t.Cleanup(func() { m.finish(t) })
	for name, pkg := range map[string]string{"sliplog": "slipway/cmd/sliplog", "guest": "slipway/runtime/runtimetest/guest/run"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
	}
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.restart"]
[grpc]
  address = %q
`, dir+"/root", dir+"/state", m.socket())
	if err := os.WriteFile(dir+"/config.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	m.launch(t)
	m.serve(t)
	m.engine = m.open(t)
	return m
}

func (m *machine) socket() string { return m.dir + "/sock" }

// launch starts the daemon and waits until it answers.
func (m *machine) launch(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(m.dir+"/containerd.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.daemon = exec.Command("containerd", "--config", m.dir+"/config.toml")
	m.daemon.Stdout, m.daemon.Stderr = log, log
	m.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := m.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := client.New(m.socket(), client.WithTimeout(time.Second))
		if err == nil {
			_, err = c.Version(t.Context())
			c.Close()
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(m.dir + "/containerd.log")
			t.Fatalf("containerd does not answer: %v\n%s", err, text)
		}
		time.Sleep(10 * time.Millisecond) // polls, does not order anything
	}
}

// kill ends the daemon as a crash does.
func (m *machine) kill() {
	m.daemon.Process.Kill()
	m.daemon.Wait()
}

// open connects a client, as an agent does when it starts.
func (m *machine) open(t *testing.T) *Engine {
	t.Helper()
	e, err := New(t.Context(), Config{
		Socket: m.socket(), Namespace: m.cgroup, Dir: m.dir + "/engine", Sliplog: m.dir + "/sliplog", Init: "/usr/bin/tini-static",
		Cgroup: m.cgroup, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Hosts: func(host string) ([]docker.RegistryHost, error) {
			if host != registryHost {
				return nil, api.Errorf(api.CodeDenied, "images do not come from %s", host)
			}
			return []docker.RegistryHost{{
				Client: m.web.Client(), Host: m.web.Listener.Addr().String(), Scheme: "http", Path: "/v2",
				Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
			}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// serve starts the registry.
func (m *machine) serve(t *testing.T) {
	store := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0)))
	m.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		if r.Method == http.MethodGet {
			m.gets[r.URL.Path]++
		}
		answer := m.answer
		m.mu.Unlock()
		if answer == nil || !answer(w, r) {
			store.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(m.web.Close)
	var err error
	if m.base, err = images.Busybox(); err != nil {
		t.Fatal(err)
	}
	guest, err := os.ReadFile(m.dir + "/guest")
	if err != nil {
		t.Fatal(err)
	}
	if m.base, err = mutate.AppendLayers(m.base, layer(t, []runtimetest.File{{Name: "guest", Text: string(guest)}})); err != nil {
		t.Fatal(err)
	}
}

// layer makes a layer of files. Everything may be run.
func layer(t *testing.T, files []runtimetest.File) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			out := tar.NewWriter(w)
			for _, f := range files {
				h := &tar.Header{Name: f.Name, Mode: 0o755, Size: int64(len(f.Text)) + f.Zero, Typeflag: tar.TypeReg}
				content := io.MultiReader(strings.NewReader(f.Text), io.LimitReader(zeros{}, f.Zero))
				switch {
				case strings.HasSuffix(f.Name, "/"):
					h.Typeflag, h.Size = tar.TypeDir, 0
				case f.Link != "":
					h.Typeflag, h.Size, h.Linkname = tar.TypeSymlink, 0, f.Link
				}
				if err := out.WriteHeader(h); err != nil {
					w.CloseWithError(err)
					return
				}
				if h.Size > 0 {
					io.Copy(out, content) // a short copy fails the next header
				}
			}
			w.CloseWithError(out.Close())
		}()
		return r, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// push makes an image and puts it into the registry.
func (m *machine) push(t *testing.T, i runtimetest.Image) string {
	t.Helper()
	key := fmt.Sprintf("%+v", i)
	m.mu.Lock()
	ref := m.pushed[key]
	m.mu.Unlock()
	if ref != "" {
		return ref
	}
	img := m.base
	if len(i.Files) > 0 {
		var err error
		if img, err = mutate.AppendLayers(img, layer(t, i.Files)); err != nil {
			t.Fatal(err)
		}
	}
	volumes := map[string]struct{}{}
	for _, v := range i.Volumes {
		volumes[v] = struct{}{}
	}
	img, err := mutate.Config(img, v1.Config{
		Entrypoint: i.Entrypoint, Cmd: i.Cmd, Env: i.Env, User: i.User, WorkingDir: i.WorkDir, Volumes: volumes,
		StopSignal: i.StopSignal, Labels: i.Labels,
	})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := images.Push(t.Context(), images.Target{Addr: m.web.Listener.Addr().String()}, "r/image:latest", img)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	ref = registryHost + "/r/image@" + digest
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pushed[key], m.configs[ref] = ref, config.String()
	return ref
}

// fetches counts how often an image's configuration was taken.
func (m *machine) fetches(ref string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gets["/v2/r/image/blobs/"+m.configs[ref]]
}

// intercept lets f answer requests in place of the registry until the test ends.
func (m *machine) intercept(t *testing.T, f func(http.ResponseWriter, *http.Request) bool) {
	set := func(f func(http.ResponseWriter, *http.Request) bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.answer = f
	}
	set(f)
	t.Cleanup(func() { set(nil) })
}

// shim finds the process of containerd's shim of a container.
func (m *machine) shim(t *testing.T, id api.ProcessID) *os.Process {
	t.Helper()
	for pid, args := range processes(t) {
		if strings.Contains(args, "containerd-shim") && strings.Contains(args, m.socket()) && strings.Contains(args, " "+string(id)+" ") {
			p, err := os.FindProcess(pid)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
	t.Fatalf("container %s has no shim", id)
	return nil
}

// processes lists the command lines of the machine's processes.
func processes(t *testing.T) map[int]string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]string{}
	for _, file := range files {
		var pid int
		fmt.Sscanf(file, "/proc/%d/", &pid)
		if b, err := os.ReadFile(file); err == nil && len(b) > 0 {
			out[pid] = string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
		}
	}
	return out
}

// traces lists what the test has on the machine outside of its directory.
func (m *machine) traces(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for pid, args := range processes(t) {
		root, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if strings.Contains(args, m.dir) || strings.Contains(root, m.dir) || strings.HasPrefix(args, "/guest ") {
			fmt.Fprintf(&b, "process %d %s\n", pid, args)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, m.dir) {
			b.WriteString("mount " + line)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + m.cgroup, "/sys/fs/cgroup/" + m.cgroup, "/run/containerd/runc/" + m.cgroup} {
		found, _ := filepath.Glob(pattern) // the pattern is well formed
		for _, f := range found {
			fmt.Fprintf(&b, "directory %s\n", f)
		}
	}
	return b.String()
}

// finish stops everything and reports what it left.
func (m *machine) finish(t *testing.T) {
	if m.engine != nil {
		defer m.engine.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		list, err := m.engine.List(ctx)
		if err != nil || len(list) > 0 {
			t.Errorf("containers at the end: %+v, %v", list, err)
		}
		for _, c := range list {
			m.engine.Remove(ctx, c.ID)
		}
		rest, err := os.ReadDir(m.dir + "/engine/pipes")
		if err != nil || len(rest) > 0 {
			t.Errorf("pipes at the end: %v, %v", rest, err)
		}
	}
	if m.daemon != nil {
		m.daemon.Process.Signal(syscall.SIGTERM)
		m.daemon.Wait()
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + m.cgroup) // the pattern is well formed
	for _, g := range append(groups, "/sys/fs/cgroup/"+m.cgroup, "/run/containerd/runc/"+m.cgroup) {
		os.Remove(g) // goes only if no container is in it
	}
	var left string
	for deadline := time.Now().Add(10 * time.Second); ; {
		if left = m.traces(t); left == "" || time.Now().After(deadline) {
			break
		}
		time.Sleep(20 * time.Millisecond) // polls: shims end a moment after their daemon
	}
	if left != "" {
		t.Errorf("left on the machine:\n%s", left)
	}
	if t.Failed() {
		text, _ := os.ReadFile(m.dir + "/containerd.log")
		t.Logf("the end of containerd's log:\n%s", text[max(0, len(text)-4000):])
	}
	if err := os.RemoveAll(m.dir); err != nil {
		t.Error(err)
	}
}

// harness gives the suite its hands.
// fuse makes a device node that no container has by itself and that anybody can open who is let.
func (m *machine) fuse() string {
	path := filepath.Join(m.dir, "fuse")
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 229))); err != nil {
		m.test.Fatal(err)
	}
	return path
}

func (m *machine) harness() *runtimetest.Harness {
	return &runtimetest.Harness{
		Engine: m.engine, Dir: m.dir, Push: m.push, Fetches: m.fetches, Device: m.fuse(),
		Reopen: func(t *testing.T) runtime.Runtime {
			e := m.open(t)
			m.test.Cleanup(func() { e.Close() })
			return e
		},
		Away: func(t *testing.T, f func()) {
			m.kill()
			defer m.launch(t)
			f()
		},
		Lose: func(t *testing.T, id api.ProcessID) {
			if err := m.shim(t, id).Kill(); err != nil {
				t.Error(err)
			}
		},
		OOM: func(t *testing.T, id api.ProcessID) {
			if err := m.engine.Signal(t.Context(), id, syscall.SIGUSR1); err != nil {
				t.Error(err)
			}
		},
	}
}
