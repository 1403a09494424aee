package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/rogpeppe/go-internal/testscript"

	"slipway/e2e/images"
)

// What is no archive, or lacks what an app needs, is refused before anything is done.
func TestImportRefuses(t *testing.T) {
	c := newCLI(t)
	web := map[string]v1.Image{"web": fileImage(t, "web")}
	const one = "services:\n  web:\n    build: .\n"
	for _, tt := range []struct {
		name, want string
		code       int
		files      []string
	}{
		{"text", "is no archive of an app", 1, nil},
		{"empty", "has no app.json", 1, []string{"other", ""}},
		{"broken", "read app.json", 1, []string{"app.json", "{"}},
		{"env", "line 1 is not of the form NAME=VALUE", 2, []string{"app.json", `{"name":"shop"}`, "env", "secret"}},
		{"nameless", "name the app with -a", 2, []string{"app.json", `{"name":""}`}},
		{"huge", "app.json is longer than 4 MiB", 1, []string{"app.json", strings.Repeat(" ", documentMax+1)}},
		{"manifest", "convox.yml of app shop", 1, []string{"app.json", `{"name":"shop"}`, "build.tgz", string(ociBuild(t, "web:\n  build: .\n", web))}},
		{"required", "the manifest requires it; give it one: --env TOKEN=", 2, []string{
			"app.json", `{"name":"shop"}`, "build.tgz", string(ociBuild(t, one+"    environment: [TOKEN]\n", web)),
		}},
	} {
		file := filepath.Join(c.dir, tt.name+".tgz")
		writeFile(t, file, []byte("text"))
		if tt.files != nil {
			writeFile(t, file, tgz(t, tt.files...))
		}
		r := c.run("import", "convox", file, "--yes")
		if r.code != tt.code || !strings.Contains(r.err, tt.want) || strings.Contains(r.err, "secret") {
			t.Errorf("%s: exit code %d, want %d with %q:\n%s%s", tt.name, r.code, tt.code, tt.want, r.out, r.err)
		}
	}
	if apps := c.must("apps"); strings.Contains(apps, "shop") {
		t.Errorf("an import that was refused made an app:\n%s", apps)
	}
}

// export makes an archive as Convox does: export FILE DIR. The directory has app.json, env,
// convox.yml and resources; services web, worker and cache have images.
func export(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: export FILE DIR")
	}
	t := ts.Value(testKey{}).(testing.TB)
	var files []string
	err := filepath.WalkDir(ts.MkAbs(args[1]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(ts.MkAbs(args[1]), path)
		if err != nil {
			return err
		}
		content := ts.ReadFile(path)
		if rel == "convox.yml" {
			rel, content = "build.tgz", string(ociBuild(t, content, map[string]v1.Image{"web": fileImage(t, "web"), "worker": fileImage(t, "worker"), "cache": empty.Image}))
		}
		files = append(files, "./"+rel, content)
		return nil
	})
	ts.Check(err)
	writeFile(t, ts.MkAbs(args[0]), tgz(t, files...))
}

const exportedID = "BAAAAAAAAAA"

// buildJSON describes a build as Convox does.
func buildJSON(text string) string {
	b, err := json.Marshal(map[string]string{"id": exportedID, "app": "shop", "description": "fix the login", "manifest": text, "status": "complete"})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// ociBuild is what a rack of generation 3 exports of a build.
func ociBuild(t testing.TB, text string, of map[string]v1.Image) []byte {
	t.Helper()
	files := []string{"build.json", buildJSON(text)}
	for service, image := range of {
		b, err := images.Layout(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image}))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, service+"."+exportedID+".tar", string(b))
	}
	return tgz(t, files...)
}

// fileImage is an image with one file.
func fileImage(t testing.TB, file string) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, layer(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func layer(t testing.TB, files ...string) v1.Layer {
	t.Helper()
	var entries []images.Entry
	for _, file := range files {
		entries = append(entries, images.File(file, file))
	}
	l, err := images.Layer(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tgz packs names and contents.
func tgz(t testing.TB, files ...string) []byte {
	t.Helper()
	var entries []images.Entry
	for i := 0; i < len(files); i += 2 {
		entries = append(entries, images.File(files[i], files[i+1]))
	}
	b, err := images.Zipped(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
