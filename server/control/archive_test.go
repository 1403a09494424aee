package control

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"testing"

	"slipway/api"
)

// takesImages is a registry that takes whatever it is given.
type takesImages struct{ Images }

func (takesImages) Load(_ context.Context, repo string, r io.Reader) ([]LoadedImage, error) {
	text, err := io.ReadAll(r)
	return []LoadedImage{{Tags: []string{string(text)}, Image: api.Image{Repository: repo, Digest: "sha256:1"}}}, err
}

// FuzzImport reads what may be no build. What comes of it has names and a manifest.
func FuzzImport(f *testing.F) {
	f.Add(buildFile, []byte(`{"id":"B1","manifest":"services: {}"}`), true)
	f.Add("web.B1.tar", []byte("registry:5000/shop:web.B1"), true)
	f.Add("web.B1.tar", []byte("shop"), true)
	f.Add("../x.tar", []byte("a:b:c.d.e"), true)
	f.Add("", []byte("text"), false)
	f.Fuzz(func(t *testing.T, name string, content []byte, described bool) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		write := func(name string, content []byte) bool {
			if w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Typeflag: tar.TypeReg}) != nil {
				return false
			}
			_, err := w.Write(content)
			return err == nil
		}
		if name == "" { // the archive itself
			b.Write(content)
		} else if described && !write(buildFile, []byte(`{"manifest":"services: {}"}`)) || !write(name, content) || w.Close() != nil || z.Close() != nil {
			t.Skip("no name of a file")
		}
		s := &Server{cfg: Config{Images: takesImages{}}}
		found, _, err := s.readBuild(t.Context(), "shop", &b)
		if err == nil && found.Manifest == "" {
			t.Errorf("%q makes a build without a manifest", name)
		}
		if err != nil && api.CodeOf(err) != api.CodeInvalid && api.CodeOf(err) != api.CodeExhausted {
			t.Errorf("%q: %v is not the error of who sent it", name, err)
		}
	})
}
