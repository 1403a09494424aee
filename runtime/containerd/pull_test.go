package containerd

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/opencontainers/image-spec/identity"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/runtimetest"
)

// put stores bytes in the registry as they are, below a path of its API, and returns their
// descriptor.
func (m *machine) put(t *testing.T, kind, mediaType string, b []byte) map[string]any {
	t.Helper()
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(b))
	path, method := "/v2/r/hostile/manifests/"+digest, http.MethodPut
	if kind == "blob" {
		path, method = "/v2/r/hostile/blobs/uploads/?digest="+digest, http.MethodPost
	}
	r, err := http.NewRequestWithContext(t.Context(), method, m.web.URL+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", mediaType)
	answer, err := m.web.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		text, _ := io.ReadAll(answer.Body)
		t.Fatalf("put %s: %s %s", kind, answer.Status, text)
	}
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(b)}
}

const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// hostile stores an image that change has made bad, and returns its ref.
func (m *machine) hostile(t *testing.T, change func(manifest, config, layer map[string]any)) string {
	t.Helper()
	l, err := layer(t, []runtimetest.File{{Name: "x", Text: t.Name()}}).Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := io.ReadAll(l)
	if err != nil {
		t.Fatal(err)
	}
	layer := m.put(t, "blob", typeLayer, b)
	config := map[string]any{
		"os": "linux", "architecture": "amd64", "config": map[string]any{"Cmd": []string{"/x"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layer["digest"]}},
	}
	manifest := map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "layers": []any{layer}}
	change(manifest, config, layer)
	if manifest["config"] == nil {
		manifest["config"] = m.put(t, "blob", typeConfig, encode(t, config))
	}
	d := m.put(t, "manifest", typeManifest, encode(t, manifest))
	return fmt.Sprintf("%s/r/hostile@%s", registryHost, d["digest"])
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPullRefusesHostileImages(t *testing.T) {
	m := newMachine(t)
	if _, err := m.engine.Pull(t.Context(), m.hostile(t, func(_, _, _ map[string]any) {}), nil); err != nil {
		t.Fatalf("the image that is not changed: %v", err)
	}
	for name, change := range map[string]func(manifest, config, layer map[string]any){
		"index and manifest in one": func(manifest, _, _ map[string]any) { manifest["manifests"] = []any{} },
		"layer larger than said":    func(_, _, layer map[string]any) { layer["size"] = layer["size"].(int) - 1 },
		"layer smaller than said":   func(_, _, layer map[string]any) { layer["size"] = layer["size"].(int) + 1 },
		"negative size":             func(_, _, layer map[string]any) { layer["size"] = -1 },
		"layer is no archive": func(manifest, _, _ map[string]any) {
			manifest["layers"] = []any{m.put(t, "blob", typeLayer, []byte("no archive"))}
		},
		"other content than said": func(_, config, _ map[string]any) {
			config["rootfs"].(map[string]any)["diff_ids"] = []any{"sha256:" + strings.Repeat("0", 64)}
		},
		"more layers than said": func(_, config, _ map[string]any) { config["rootfs"].(map[string]any)["diff_ids"] = []any{} },
		"digest that is a path": func(_, _, layer map[string]any) { layer["digest"] = "sha256:../../../../etc/passwd" },
		"configuration of garbage": func(manifest, _, _ map[string]any) {
			manifest["config"] = m.put(t, "blob", typeConfig, []byte("{garbage"))
		},
		"configuration too large": func(_, config, _ map[string]any) { config["author"] = strings.Repeat("x", configMax) },
	} {
		t.Run(name, func(t *testing.T) {
			ref := m.hostile(t, change)
			want := api.CodeInvalid
			switch name {
			case "layer smaller than said":
				want = api.CodeUnavailable // a connection that was cut looks like this
			case "digest that is a path":
				want = api.CodeNotFound
			}
			if info, err := m.engine.Pull(t.Context(), ref, nil); api.CodeOf(err) != want {
				t.Errorf("got %+v, %v (code %q), want code %q", info, err, api.CodeOf(err), want)
			}
			if err := m.engine.Create(t.Context(), runtime.Spec{ID: "phostile", Image: ref}); err == nil {
				t.Error("a container of it was made")
				m.engine.Remove(t.Context(), "phostile")
			}
		})
	}
}

func TestPullAsksTheRegistryOnly(t *testing.T) {
	m := newMachine(t)
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	ref := m.hostile(t, func(_, _, layer map[string]any) { layer["urls"] = []string{elsewhere.URL + "/latest/meta-data"} })
	if _, err := m.engine.Pull(t.Context(), ref, nil); err != nil {
		t.Errorf("the registry has the layer as well: %v", err)
	}
	host := strings.TrimPrefix(elsewhere.URL, "http://")
	_, err := m.engine.Pull(t.Context(), host+"/r/x@sha256:"+strings.Repeat("0", 64), nil)
	if api.CodeOf(err) != api.CodeDenied {
		t.Errorf("an image of another registry: %v", err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("another host was asked %d times", n)
	}
}

func TestPullErrorsSayWhetherToTryAgain(t *testing.T) {
	m := newMachine(t)
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		want   api.Code
	}{
		"401": {status(401), api.CodeDenied}, "403": {status(403), api.CodeDenied}, "404": {status(404), api.CodeNotFound},
		"500": {status(500), api.CodeUnavailable}, "503": {status(503), api.CodeUnavailable}, "429": {status(429), api.CodeUnavailable},
		"connection cut": {func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, api.CodeUnavailable},
		"blobs missing": {func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/blobs/") && status(404)(w, r)
		}, api.CodeNotFound},
		"other bytes": {func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") || r.Method != http.MethodGet {
				return false
			}
			w.Header().Set("Content-Type", typeManifest)
			fmt.Fprint(w, `{"schemaVersion":2}`)
			return true
		}, api.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			ref := m.push(t, runtimetest.Image{Labels: map[string]string{"test": t.Name()}})
			m.intercept(t, c.answer)
			if _, err := m.engine.Pull(t.Context(), ref, nil); api.CodeOf(err) != c.want {
				t.Errorf("got %v (code %q), want code %q", err, api.CodeOf(err), c.want)
			}
			m.intercept(t, nil)
			if _, err := m.engine.Pull(t.Context(), ref, nil); err != nil {
				t.Errorf("once it is over: %v", err)
			}
		})
	}
	ref := m.push(t, runtimetest.Image{Labels: map[string]string{"test": t.Name()}})
	m.web.Close()
	if _, err := m.engine.Pull(t.Context(), ref, nil); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("no registry: got %v (code %q)", err, api.CodeOf(err))
	}
}

func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(code)
		return true
	}
}

// TestCutOffCreateCanBeRepeated plays an agent that was killed between the file system and the
// container, and one that was killed between the container and its task.
func TestCutOffCreateCanBeRepeated(t *testing.T) {
	m := newMachine(t)
	image := runtimetest.Image{}
	image.Cmd = []string{"/guest", "exit", "0"}
	ref := m.push(t, image)
	if _, err := m.engine.Pull(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	img, err := m.engine.client.GetImage(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := img.RootFS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spec := runtime.Spec{ID: "pcut", Image: ref}
	kept := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "for the test"}) // or the daemon may collect it first
	if _, err := m.engine.client.SnapshotService(snapshotter).Prepare(t.Context(), "pcut", identity.ChainID(ids).String(), kept); err != nil {
		t.Fatal(err)
	}
	if err := m.engine.Create(t.Context(), spec); api.CodeOf(err) != api.CodeConflict {
		t.Fatalf("create over what is left: %v", err)
	}
	repeat := func(what string) {
		t.Helper()
		if err := m.engine.Remove(t.Context(), "pcut"); err != nil {
			t.Fatalf("%s: remove: %v", what, err)
		}
		if err := m.engine.Create(t.Context(), spec); err != nil {
			t.Fatalf("%s: create again: %v", what, err)
		}
	}
	repeat("a file system")
	tk, err := m.engine.task(t.Context(), "pcut")
	if err == nil {
		_, err = tk.Delete(t.Context(), client.WithProcessKill)
	}
	if err != nil {
		t.Fatalf("take the task from its container: %v", err)
	}
	repeat("a container")
	if err := m.engine.Remove(t.Context(), "pcut"); err != nil {
		t.Error(err)
	}
}

// TestLimitsReachTheKernel reads the control group of a container.
func TestLimitsReachTheKernel(t *testing.T) {
	m := newMachine(t)
	image := runtimetest.Image{}
	image.Cmd = []string{"/guest", "wait"}
	ref := m.push(t, image)
	if _, err := m.engine.Pull(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
	spec := runtime.Spec{ID: "plimits", Image: ref, Limits: runtime.Limits{Memory: 64 * api.MiB, CPU: 5, CPUShares: 500}}
	if err := m.engine.Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.engine.Remove(t.Context(), "plimits"); err != nil {
			t.Error(err)
		}
	}()
	g := m.engine.group("plimits")
	if g.unified {
		quota, _ := os.ReadFile(g.file("", "cpu.max"))
		if g.number("", "memory.max") != 64<<20 || string(quota) != "1000 100000\n" {
			t.Errorf("memory %d, processor %q", g.number("", "memory.max"), quota)
		}
	} else if g.number("memory", "memory.limit_in_bytes") != 64<<20 || g.number("cpu", "cpu.cfs_quota_us") != 1000 || g.number("cpu", "cpu.shares") != 512 {
		t.Errorf("memory %d, quota %d, shares %d", g.number("memory", "memory.limit_in_bytes"), g.number("cpu", "cpu.cfs_quota_us"), g.number("cpu", "cpu.shares"))
	}
	if swap := filepath.Base(g.file("memory", "memory.memsw.limit_in_bytes")); boundsSwap(cgroupRoot) && !g.unified && g.number("memory", swap) != 64<<20 {
		t.Errorf("memory and swap together: %d", g.number("memory", swap))
	}
	if err := m.engine.Signal(t.Context(), "plimits", syscall.SIGTERM); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("signal before the start: %v", err)
	}
}
