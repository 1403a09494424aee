package registry

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"slipway/api"
	"slipway/e2e/images"
)

// fetched reads an image completely and compares every digest with its content.
func (r *rack) fetched(t *testing.T, ref string) v1.Image {
	t.Helper()
	img, err := remote.Image(r.ref(t, ref), as("admin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Fatal(err)
	}
	return img
}

func configOf(t *testing.T, img v1.Image) string {
	t.Helper()
	h, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func TestArchivesThereAndBack(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	web := randomImage(t, 3)
	db, err := mutate.AppendLayers(web, first(t, randomImage(t, 1))) // shares three layers
	if err != nil {
		t.Fatal(err)
	}
	saved := []Saved{{"shop:web.B1", r.push(t, "shop:web", web)}, {"shop:db.B1", r.push(t, "shop:db", db)}}
	archive, err := r.Archive(t.Context(), "shop", saved)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := archive.Write(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	if archive.Size() != int64(text.Len()) {
		t.Errorf("the archive has %d bytes, and said %d", text.Len(), archive.Size())
	}
	if files := strings.Count(text.String(), "blobs/sha256/"); files != 4+2+2+7 { // layers, configurations; named in the index
		t.Errorf("%d names of blobs", files)
	}

	// What others read, too.
	tag, err := name.NewTag("shop:db.B1")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil }, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(theirs); err != nil || configOf(t, theirs) != configOf(t, db) {
		t.Errorf("read by another: %v, configuration %s, want %s", err, configOf(t, theirs), configOf(t, db))
	}

	loaded, err := r.Load(t.Context(), "copy", &text)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []v1.Image{web, db} {
		if !slices.Equal(loaded[i].Tags, []string{saved[i].Tag}) {
			t.Errorf("image %d is tagged %q", i, loaded[i].Tags)
		}
		if got := r.fetched(t, "copy@"+loaded[i].Digest); configOf(t, got) != configOf(t, want) {
			t.Errorf("%s has the configuration %s, want %s", loaded[i].Tags, configOf(t, got), configOf(t, want))
		}
	}
	// Loading needs nothing but the manifests to be named; what the archive had beside them goes.
	keep := map[string]bool{loaded[0].Digest: true}
	if _, err := r.GC(t.Context(), func(repo string) map[string]bool { return keep }); err != nil {
		t.Fatal(err)
	}
	r.fetched(t, "copy@"+loaded[0].Digest)
	if r.Holds("copy", loaded[1].Digest) {
		t.Error("GC left an image that nobody names")
	}
}

// TestLoadOfDockersArchives reads what another program writes as `docker save` did for years.
func TestLoadOfDockersArchives(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	images := map[name.Reference]v1.Image{}
	for _, service := range []string{"web", "db"} {
		tag, err := name.NewTag("123.example.com/shop:" + service + ".BABCDEFGHI")
		if err != nil {
			t.Fatal(err)
		}
		images[tag] = randomImage(t, 2)
	}
	var text bytes.Buffer
	if err := tarball.MultiRefWrite(images, &text); err != nil {
		t.Fatal(err)
	}
	loaded, err := r.Load(t.Context(), "shop", &text)
	if err != nil || len(loaded) != 2 {
		t.Fatalf("%+v, %v", loaded, err)
	}
	for _, l := range loaded {
		tag, err := name.NewTag(l.Tags[0])
		if err != nil {
			t.Fatal(err)
		}
		got := r.fetched(t, "shop@"+l.Digest)
		if configOf(t, got) != configOf(t, images[tag]) {
			t.Errorf("%s has another configuration", tag)
		}
		m, err := got.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range m.Layers {
			if layer.Size < 5000 || layer.MediaType != types.OCILayer { // compressed, and longer than a buffer
				t.Errorf("%s has a layer of %d bytes, a %s", tag, layer.Size, layer.MediaType)
			}
		}
	}
}

// TestLoadOfLayouts reads an OCI layout as another program writes it: of one image, and of one for
// several platforms.
func TestLoadOfLayouts(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	one, other := randomImage(t, 2), randomImage(t, 1)
	platforms := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "m68k"}}},
		mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	elsewhere := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "m68k"}}},
		mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "plan9", Architecture: runtime.GOARCH}}})
	for name, index := range map[string]v1.ImageIndex{
		"image":     mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Annotations: map[string]string{"org.opencontainers.image.ref.name": "web.B1"}}}),
		"platforms": mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: platforms}),
	} {
		loaded, err := r.Load(t.Context(), name, layoutOf(t, index))
		if err != nil || len(loaded) != 1 || loaded[0].Digest != digestOf(t, one) {
			t.Fatalf("%s: %+v, %v", name, loaded, err)
		}
		if want := name == "image"; slices.Equal(loaded[0].Tags, []string{"web.B1"}) != want {
			t.Errorf("%s: tags %q", name, loaded[0].Tags)
		}
		r.fetched(t, name+"@"+loaded[0].Digest)
	}
	_, err := r.Load(t.Context(), "elsewhere", layoutOf(t, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: elsewhere})))
	if err == nil || !strings.Contains(err.Error(), "for 2 platforms, and none of them is linux/") {
		t.Errorf("an image of other machines: %v", err)
	}
	_, err = r.Load(t.Context(), "lacking", archiveOf(t, entry{name: "index.json", text: `{"manifests": [{"digest": "sha256:` + strings.Repeat("0", 64) + `"}]}`}))
	if err == nil || !strings.Contains(err.Error(), "has no manifest sha256:000") {
		t.Errorf("a layout without its manifest: %v", err)
	}
}

// layoutOf writes an index as a tar of an OCI layout.
func layoutOf(t *testing.T, index v1.ImageIndex) io.Reader {
	t.Helper()
	b, err := images.Layout(index)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b)
}

// entry is a file of an archive made by hand.
type entry struct {
	name, text string
	link       string // of a symlink, or with hard of a hard link
	hard       bool
}

func archiveOf(t *testing.T, entries ...entry) io.Reader {
	t.Helper()
	var all []images.Entry
	for _, e := range entries {
		f := images.File(e.name, e.text)
		if f.Linkname = e.link; e.link != "" {
			f.Typeflag = tar.TypeSymlink
		}
		if e.hard {
			f.Typeflag = tar.TypeLink
		}
		all = append(all, f)
	}
	b, err := images.Archive(all...)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b)
}

// layerText is a layer, which is not compressed: old archives have such.
func layerText(t *testing.T) string {
	t.Helper()
	text, err := io.ReadAll(archiveOf(t, entry{name: "etc/motd", text: "hello\n"}))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func configText(t *testing.T, diffs ...string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLoadFollowsLinks(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	layer := layerText(t)
	diff, _, err := v1.SHA256(strings.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := r.Load(t.Context(), "shop", archiveOf(t,
		entry{name: "b/layer.tar", link: "../a/layer.tar"}, entry{name: "a/layer.tar", text: layer}, entry{name: "c/layer.tar", link: "b/layer.tar", hard: true},
		entry{name: "c.json", text: configText(t, diff.String(), diff.String(), diff.String())},
		entry{name: indexName, text: `[{"Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]`},
	))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.pull(t, "shop@"+loaded[0].Digest); err != nil || loaded[0].Size != api.Bytes(3*len(layer)+len(configText(t, diff.String(), diff.String(), diff.String()))) {
		t.Errorf("%+v, %v", loaded, err)
	}
}

func TestLoadRefusesWhatIsNoImage(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	layer, index := entry{name: "l.tar", text: layerText(t)}, entry{name: indexName, text: `[{"Config": "c.json", "Layers": ["l.tar"]}]`}
	config := entry{name: "c.json", text: configText(t, "sha256:"+strings.Repeat("0", 64))}
	whole, err := io.ReadAll(archiveOf(t, layer, config, index))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		archive io.Reader
		want    string
	}{
		{"no tar", strings.NewReader(strings.Repeat("no tar at all ", 100)), "cannot be unpacked"},
		{"nothing", archiveOf(t), "has no manifest.json"},
		{"no index", archiveOf(t, layer, config), "has no manifest.json"},
		{"an index of nothing", archiveOf(t, entry{name: indexName, text: "[]"}), "lists no images"},
		{"an index of another kind", archiveOf(t, entry{name: indexName, text: `{"a": 1}`}), "lists no images"},
		{"an index without end", archiveOf(t, entry{name: indexName, text: strings.Repeat(" ", int(documentMax)+1)}), "larger than 4 MiB"},
		{"no layer", archiveOf(t, config, index), `has no "l.tar"`},
		{"no configuration", archiveOf(t, layer, index), `has no "c.json"`},
		{"links in a circle", archiveOf(t, entry{name: "l.tar", link: "m.tar"}, entry{name: "m.tar", link: "l.tar"}, config, index), `has no "l.tar"`},
		{"another number of layers", archiveOf(t, layer, entry{name: "c.json", text: configText(t)}, index), "names 0 layers, and the archive 1"},
		{"a configuration that is none", archiveOf(t, layer, entry{name: "c.json", text: "FROM scratch"}, index), "configuration cannot be read"},
		{"cut", bytes.NewReader(whole[:len(whole)/2]), "cannot be unpacked"},
		{"cut in the index", bytes.NewReader(whole[:len(whole)-2000]), "unexpected EOF"},
	} {
		_, err := r.Load(t.Context(), "shop", c.archive)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := r.GC(t.Context(), func(string) map[string]bool { return map[string]bool{} }); err != nil {
		t.Fatal(err)
	}
	if left := diskUse(t, r.root); left > 4096 {
		t.Errorf("%d bytes are left of archives that were refused", left)
	}
	if _, err := r.Load(t.Context(), "Shop!", archiveOf(t)); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a repository that cannot be: %v", err)
	}
	if _, err := r.Archive(t.Context(), "shop", []Saved{{"shop:web", fmt.Sprintf("sha256:%064d", 1)}}); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("an image that is not there: %v", err)
	}
}
