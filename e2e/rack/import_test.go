package rack

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"slipway/e2e/images"
)

// TestImportedImagesRun takes over an app as each generation of Convox exports it. The processes
// find the files, owners and settings of the image that Convox had built.
func TestImportedImagesRun(t *testing.T) {
	t.Parallel()
	r := start(t)
	image := foreignImage(t)
	for app, archive := range map[string]string{"second": savedImage(t, image), "third": imageLayout(t, image)} {
		file := filepath.Join(r.dir, app+".tgz")
		build := map[string]string{"id": "BAAAAAAAAAA", "description": "from elsewhere", "manifest": "environment:\n  - VERSION\nservices:\n  web:\n    build: .\n    port: 3000\n    health: /check\n    tls:\n      redirect: false\n"}
		text, err := json.Marshal(build)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, packed(t, "app.json", `{"name":"`+app+`","locked":true}`, "env", "VERSION=imported",
			"build.tgz", packed(t, "build.json", string(text), "web.BAAAAAAAAAA.tar", archive)))

		out := r.must("", "import", "convox", file, "--yes")
		if !strings.Contains(out, "web v2 is live (1/1") {
			t.Errorf("%s: import said:\n%s", app, out)
		}
		if got := r.get(app); got != "imported GET 0\n" {
			t.Errorf("%s answers %q", app, got)
		}
		inside := func(args ...string) (string, int) {
			return r.slipway("", append([]string{"exec", "web", "-a", app, "--", "/testapp"}, args...)...)
		}
		if got, code := inside("env", "GREETING"); got != "say \"hi\" for $5 \\o/\n" || code != 0 {
			t.Errorf("%s: GREETING is %q", app, got)
		}
		// The path is below the working directory, the file is its owner's alone.
		if got, code := inside("read", "secret"); got != "for 1000" || code != 0 {
			t.Errorf("%s: the file of user 1000 reads %q, %d", app, got, code)
		}
		if got, code := inside("read", "/home/roots"); code == 0 {
			t.Errorf("%s: user 1000 reads a file of root: %q", app, got)
		}
		if got, code := inside("read", "/home/removed"); code == 0 || !strings.Contains(got, "no such file") {
			t.Errorf("%s: a file that an upper layer removed reads %q", app, got)
		}
	}
}

// foreignImage is an image of two layers, for user 1000.
func foreignImage(t *testing.T) v1.Image {
	t.Helper()
	program := tar.Header{Name: "testapp", Mode: 0o755, Typeflag: tar.TypeReg}
	home := tar.Header{Name: "home/app/", Mode: 0o700, Uid: 1000, Gid: 1000, Typeflag: tar.TypeDir}
	secret := tar.Header{Name: "home/app/secret", Mode: 0o600, Uid: 1000, Gid: 1000, Typeflag: tar.TypeReg}
	roots := tar.Header{Name: "home/roots", Mode: 0o600, Typeflag: tar.TypeReg}
	removed := tar.Header{Name: "home/removed", Mode: 0o644, Typeflag: tar.TypeReg}
	whiteout := tar.Header{Name: "home/.wh.removed", Mode: 0o600, Typeflag: tar.TypeReg}
	lower := layerOf(t, images.Entry{Header: program, Content: readFile(t, bin.Dir+"/testapp")}, images.Entry{Header: home}, images.Entry{Header: removed, Content: "gone"})
	upper := layerOf(t, images.Entry{Header: whiteout}, images.Entry{Header: roots, Content: "for root"}, images.Entry{Header: secret, Content: "for 1000"})
	image, err := mutate.AppendLayers(empty.Image, lower, upper)
	if err == nil {
		image, err = mutate.Config(image, v1.Config{
			Entrypoint: []string{"/testapp"}, WorkingDir: "/home/app", User: "1000:1000", Env: []string{`GREETING=say "hi" for $5 \o/`},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func layerOf(t *testing.T, entries ...images.Entry) v1.Layer {
	t.Helper()
	l, err := images.Layer(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// savedImage is what docker save writes.
func savedImage(t *testing.T, image v1.Image) string {
	t.Helper()
	tag, err := name.NewTag("registry.test/second:web.BAAAAAAAAAA")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(tag, image, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// imageLayout is an OCI archive.
func imageLayout(t *testing.T, image v1.Image) string {
	t.Helper()
	b, err := images.Layout(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image}))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// packed is a compressed tar of names and contents.
func packed(t *testing.T, files ...string) string {
	t.Helper()
	var entries []images.Entry
	for i := 0; i < len(files); i += 2 {
		entries = append(entries, images.File(files[i], files[i+1]))
	}
	b, err := images.Zipped(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
