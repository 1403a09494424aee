package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// What is written of an app is read as it was.
func TestArchiveIsReadAsWritten(t *testing.T) {
	env := map[string]string{"A": "1", "SPACES": "  two ", "EQUALS": "a=b", "LINES": "one\ntwo\r\n", "EMPTY": "", "HASH": "#x"}
	build := ociBuild(t, "services: {web: {build: .}}", map[string]v1.Image{"web": fileImage(t, "web")})
	for name, a := range map[string]exported{
		"whole":    {App: exportedApp{Name: "shop", Release: "R1", Locked: true}, Env: env},
		"no build": {App: exportedApp{Name: "shop", Release: "R1"}, Env: env},
		"new":      {App: exportedApp{Name: "shop"}, Env: map[string]string{}},
	} {
		var b bytes.Buffer
		send := func(w io.Writer) error { _, err := w.Write(build); return err }
		if name != "whole" {
			send = nil
		}
		if err := a.write(&b, send); err != nil {
			t.Fatal(err)
		}
		var got exported
		if err := got.read(&b); err != nil || !got.App.found {
			t.Errorf("%s: %v", name, err)
		}
		if !maps.Equal(got.Env, a.Env) || got.App.Name != "shop" || got.App.Locked != a.App.Locked || (got.Build.ID == exportedID) != (send != nil) {
			t.Errorf("%s: %+v became %+v", name, a, got)
		}
	}
}

// FuzzArchive reads what may be no archive, in its three layers.
func FuzzArchive(f *testing.F) {
	f.Add("app.json", []byte(`{"name":"shop","parameters":{"A":"b"},"multiline":{"A":"b\nc"}}`))
	f.Add("env", []byte("A=1\n# comment\n\nB=two\r\n"))
	f.Add("build.tgz", tgz(f, "build.json", buildJSON("services: {}")))
	f.Add("./resources/../resources/db.tgz", []byte("dump"))
	f.Add("", tgz(f, "app.json", "{}"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		if name == "" { // the archive itself
			b.Write(content)
		} else if err := addEntry(w, name, int64(len(content)), bytes.NewReader(content)); err != nil {
			t.Skip("no name of a file")
		} else if w.Close() != nil || z.Close() != nil {
			t.Fatal("no archive")
		}
		var a exported
		if err := a.read(&b); err == nil && a.Env == nil {
			t.Errorf("%q: no environment", name)
		}
	})
}
