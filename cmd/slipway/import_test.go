package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestImportedSource is the story of an import: what the two generations of Convox export becomes a
// source that builds the same images.
func TestImportedSource(t *testing.T) {
	const text = "services:\n  web:\n    build: .\n    port: 3000\n  api:\n    build: ./api\n  worker:\n    build:\n      path: api\n      target: jobs\n  cache:\n    image: redis:7\n"
	images := map[string]v1.Image{"web": webImage(t), "api": fileImage(t, "api"), "worker": fileImage(t, "worker"), "cache": empty.Image}
	for generation, build := range map[string][]byte{"2": savedBuild(t, text, images), "3": ociBuild(t, text, images)} {
		t.Run(generation, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "shop.tgz")
			writeFile(t, file, tgz(t, "app.json", `{"name":"shop"}`, "build.tgz", string(build), "env", "A=1"))
			dir := unpackImport(t, file)
			var files []string
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					rel, _ := filepath.Rel(dir, path)
					files = append(files, rel)
				}
				return err
			})
			want := []string{"Dockerfile", "api/Dockerfile", "api/rootfs-api.tar", "api/rootfs-worker.tar", "convox.yml", "rootfs-web.tar"}
			if err != nil || !slices.Equal(files, want) {
				t.Errorf("the source has %q, %v; want %q", files, err, want)
			}
			for file, want := range map[string]string{
				"convox.yml": text,
				"Dockerfile": "FROM scratch\nADD [\"rootfs-web.tar\", \"/\"]\nENV PATH=\"/bin\"\nENV GREETING=\"say \\\"hi\\\" for \\$5 \\\\o/\"\n" +
					"EXPOSE 3000/tcp\nVOLUME [\"/data\"]\nWORKDIR /app\nUSER 1000:1000\nSTOPSIGNAL SIGINT\n" +
					"ENTRYPOINT [\"/entry\",\"-x\"]\nCMD [\"serve\",\"it's \\\"it\\\"\"]\n",
				"api/Dockerfile": "FROM scratch AS jobs\nADD [\"rootfs-worker.tar\", \"/\"]\nFROM scratch\nADD [\"rootfs-api.tar\", \"/\"]\n",
			} {
				got, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil || string(got) != want {
					t.Errorf("%s, %v:\n%s\nwant\n%s", file, err, got, want)
				}
			}
			// What an upper layer removed is not there, what it replaced is there once.
			if got := tarNames(t, filepath.Join(dir, "rootfs-web.tar")); !slices.Equal(got, []string{"app/kept", "app/new"}) {
				t.Errorf("web has %q", got)
			}
			if got := tarNames(t, filepath.Join(dir, "api/rootfs-worker.tar")); !slices.Equal(got, []string{"worker"}) {
				t.Errorf("worker has %q", got)
			}
		})
	}
}

// unpackImport makes the source of an archive.
func unpackImport(t *testing.T, file string) string {
	t.Helper()
	a, err := openArchive(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &importPlan{archive: a, source: manifestFile{name: "convox.yml", text: a.Build.Manifest}, Missing: map[string]string{}}
	if err := p.readManifest(); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	dir := filepath.Join(work, "source")
	if err := p.unpack(file, work, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What cannot be made of images is refused before anything is done, and says what can.
func TestImportRefuses(t *testing.T) {
	c := newCLI(t)
	two := "services:\n  web:\n    build:\n      path: .\n      args: [A=1]\n  api:\n    build:\n      path: .\n      args: [A=2]\n"
	web := map[string]v1.Image{"web": fileImage(t, "web")}
	long, err := mutate.Config(empty.Image, v1.Config{Env: []string{"A=1\n2"}})
	if err != nil {
		t.Fatal(err)
	}
	trick, err := mutate.Config(empty.Image, v1.Config{ExposedPorts: map[string]struct{}{"80\nRUN true": {}}})
	if err != nil {
		t.Fatal(err)
	}
	const one = "services:\n  web:\n    build: .\n"
	for _, tt := range []struct {
		name, want string
		code       int
		files      []string
	}{
		{"text", "is no archive of `convox apps export`", 1, nil},
		{"empty", "has no app.json", 1, []string{"other", ""}},
		{"broken", "read app.json", 1, []string{"app.json", "{"}},
		{"env", "line 1 is not of the form NAME=VALUE", 2, []string{"app.json", `{"name":"shop"}`, "env", "secret"}},
		{"nameless", "name the app with -a", 2, []string{"app.json", `{"name":""}`}},
		{"huge", "app.json is longer than 4 MiB", 1, []string{"app.json", strings.Repeat(" ", documentMax+1)}},
		{"args", "built from Dockerfile with other arguments", 1, []string{"app.json", `{"name":"shop"}`, "build.tgz", string(ociBuild(t, two, web))}},
		{"image", "the archive has none named api.BAAAAAAAAAA", 4, []string{
			"app.json", `{"name":"shop"}`, "build.tgz", string(ociBuild(t, "services:\n  api:\n    build: .\n", web)),
		}},
		{"break", "has a line break", 1, []string{"app.json", `{"name":"shop"}`, "build.tgz", string(savedBuild(t, one, map[string]v1.Image{"web": long}))}},
		{"trick", "has a line break", 1, []string{"app.json", `{"name":"shop"}`, "build.tgz", string(savedBuild(t, one, map[string]v1.Image{"web": trick}))}},
		{"linked", "index.json", 1, []string{
			"app.json", `{"name":"shop"}`, "build.tgz", string(tgz(t, "build.json", buildJSON(one), "web."+exportedID+".tar", linkTo(t, c.dir))),
		}},
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

// linkTo is an OCI archive whose index is a link to a file of this machine.
func linkTo(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "mine.json")
	writeFile(t, file, []byte(`{"schemaVersion":2,"manifests":[]}`))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "index.json", Linkname: file, Typeflag: tar.TypeSymlink}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// export makes an archive as Convox does: export FILE DIR. The directory has app.json, env,
// convox.yml and resources; services web and worker have images.
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
			rel, content = "build.tgz", string(ociBuild(t, content, map[string]v1.Image{"web": webImage(t), "worker": fileImage(t, "worker")}))
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
func ociBuild(t testing.TB, text string, images map[string]v1.Image) []byte {
	t.Helper()
	files := []string{"build.json", buildJSON(text)}
	for service, image := range images {
		dir := t.TempDir()
		l, err := layout.Write(dir, empty.Index)
		if err == nil {
			err = l.AppendImage(image)
		}
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.AddFS(os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		files = append(files, service+"."+exportedID+".tar", b.String())
	}
	return tgz(t, files...)
}

// savedBuild is what a rack of generation 2 exports of a build.
func savedBuild(t testing.TB, text string, images map[string]v1.Image) []byte {
	t.Helper()
	tags := map[name.Tag]v1.Image{}
	for service, image := range images {
		tag, err := name.NewTag("registry.test/shop:" + service + "." + exportedID)
		if err != nil {
			t.Fatal(err)
		}
		tags[tag] = image
	}
	var b bytes.Buffer
	if err := tarball.MultiWrite(tags, &b); err != nil {
		t.Fatal(err)
	}
	return tgz(t, "build.json", buildJSON(text), "shop."+exportedID+".tar", b.String())
}

// webImage is an image that sets everything, of two layers.
func webImage(t testing.TB) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, layer(t, "app/kept", "app/old"), layer(t, "app/new", "app/.wh.old"))
	if err == nil {
		image, err = mutate.Config(image, v1.Config{
			Env: []string{"PATH=/bin", `GREETING=say "hi" for $5 \o/`}, Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"serve", `it's "it"`},
			WorkingDir: "/app", User: "1000:1000", StopSignal: "SIGINT",
			ExposedPorts: map[string]struct{}{"3000/tcp": {}}, Volumes: map[string]struct{}{"/data": {}},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
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
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, file := range files {
		if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o755, Size: int64(len(file)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, file); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tgz packs names and contents.
func tgz(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o600, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tarNames lists the files of a tar.
func tarNames(t *testing.T, file string) (names []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func writeFile(t testing.TB, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
