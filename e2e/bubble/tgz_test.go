package bubble

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// exportOf is a build as a rack of Convox exports it, with one image of one file.
func exportOf(manifest, service string) string {
	layer := archiveOf(map[string]string{"motd": "hello\n"})
	files, build := map[string]string{
		"layer.tar": layer, "config.json": fmt.Sprintf(`{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["sha256:%x"]}}`, sha256.Sum256([]byte(layer))),
	}, map[string]string{"id": "BOLDBUILD", "app": "old", "description": "from elsewhere", "git-sha": "abc", "manifest": manifest}
	files["manifest.json"] = fmt.Sprintf(`[{"Config": "config.json", "RepoTags": ["registry:5000/old:%s.BOLDBUILD"], "Layers": ["layer.tar"]}]`, service)
	description, err := json.Marshal(build)
	if err != nil {
		panic(err) // texts always have a form in JSON
	}
	return tgz(map[string]string{"build.json": string(description), "old.BOLDBUILD.tar": archiveOf(files)})
}

// tgz is the source of an app as clients send it.
func tgz(files map[string]string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(archiveOf(files)))
	z.Close()
	return b.String()
}

// archiveOf is a tar.
func archiveOf(files map[string]string) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			panic(err) // a buffer takes everything
		}
		w.Write([]byte(files[name]))
	}
	w.Close()
	return b.String()
}
