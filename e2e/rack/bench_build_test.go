package rack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"slipway/api"
	"slipway/e2e/bench"
)

// editRounds is how often each of the three is measured, in turns.
const editRounds = 7

// edits measures how long a one-line change takes from `slipway deploy` to the first answer of
// the new version, beside the same build by BuildKit alone plus a promote. BuildKit is the
// rack's own engine, asked by its client as buildctl does, from the same directory and with the
// same push; to start buildctl would come on top.
func edits(t *testing.T, r *rack, rows *bench.Report) {
	if out, err := exec.Command(bin.Dir+"/slipwayd", "image", "push", "--dir", r.dir+"/rack", "busybox").CombinedOutput(); err != nil {
		t.Fatalf("image push: %v\n%s", err, out)
	}
	dir := filepath.Join(r.dir, "hello")
	if err := os.CopyFS(dir, os.DirFS("../../examples/hello")); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "index.html")
	plain, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	edit := func() string {
		n++
		text := fmt.Sprintf("edit %04d", n)
		if err := os.WriteFile(page, append(slices.Clip(plain), "<p>"+text+"</p>\n"...), 0o644); err != nil {
			t.Fatal(err)
		}
		return text
	}
	r.must("", "deploy", dir, "-a", "hello")
	r.alone("hello")
	socket, namespace := engineOf(t, r)
	copies := len(strings.Fields(ctr(t, socket, "-n", namespace, "containers", "ls", "-q")))
	var deploys, builds, promotes []time.Duration
	for i := range editRounds {
		r.alone("hello")
		settled(t, r, copies)
		text := edit()
		began := time.Now()
		done := make(chan string, 1)
		go func() { out, code := r.slipway("", "deploy", dir, "-a", "hello"); done <- fmt.Sprint(code, "\n", out) }()
		r.answers("hello", "/", text)
		deploys = append(deploys, time.Since(began))
		if out := <-done; !strings.HasPrefix(out, "0\n") {
			t.Fatalf("deploy: exit code %s", out)
		}

		edit()
		began = time.Now()
		buildAlone(t, r, dir, i)
		builds = append(builds, time.Since(began))

		greeting := fmt.Sprintf("GREETING=promote-%d", i)
		r.must("", "env", "set", greeting, "-a", "hello")
		r.alone("hello")
		settled(t, r, copies)
		began = time.Now()
		r.must("", "releases", "promote", "--wait=false", "-a", "hello")
		r.answers("hello", "/cgi-bin/hello", strings.TrimPrefix(greeting, "GREETING="))
		promotes = append(promotes, time.Since(began))
	}
	b, p := bench.Median(builds).Seconds(), bench.Median(promotes).Seconds()
	rows.Add("edit_over_buildkit", bench.Median(deploys).Seconds(), "s", "build by BuildKit alone + promote", b+p,
		fmt.Sprintf("medians of %d in turns, deploy of an edited examples/hello to its first answer; build %.3f, promote %.3f", editRounds, b, p))
}

// answers waits until an app serves a text.
func (r *rack) answers(app, path, text string) {
	r.t.Helper()
	c := r.client()
	defer c.CloseIdleConnections()
	url := fmt.Sprintf("https://web.%s.localhost:%d%s", app, r.https, path)
	var last string
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) { // polls
		resp, err := c.Get(url)
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if last = string(b); strings.Contains(last, text) {
				return
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s does not answer %q: %v\n%s", url, text, err, last)
		}
	}
}

// alone waits until one copy of an app is left.
func (r *rack) alone(app string) {
	r.t.Helper()
	r.await("one copy of "+app, time.Minute, func() bool {
		var list []struct{ Status string }
		err := json.Unmarshal([]byte(r.must("", "ps", "-a", app, "--json")), &list)
		return err == nil && len(list) == 1 && list[0].Status == "running"
	})
}

// buildAlone does what buildctl does.
func buildAlone(t *testing.T, r *rack, dir string, i int) {
	t.Helper()
	sockets := globs(r.dir + "/rack/*/builder.sock")
	sockets = append(sockets, globs(r.dir+"/rack/*/*/builder.sock")...)
	if len(sockets) != 1 {
		t.Fatalf("sockets of the build engine: %q", sockets)
	}
	c, err := client.New(t.Context(), "unix://"+sockets[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	source, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	ref := fmt.Sprintf("%s/hello:alone-%d", api.RackHost, i)
	_, err = c.Solve(t.Context(), nil, client.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: map[string]string{"cmdline": "builtin", "filename": "Dockerfile"},
		LocalMounts:   map[string]fsutil.FS{"context": source, "dockerfile": source},
		SharedKey:     "alone",
		Exports: []client.ExportEntry{{Type: client.ExporterImage, Attrs: map[string]string{
			"name": ref, "push": "true", "oci-mediatypes": "true", "compression": "zstd", "compression-level": "3"}}},
	}, nil)
	if err != nil {
		t.Fatal(errors.Join(fmt.Errorf("build %s", ref), err))
	}
}
