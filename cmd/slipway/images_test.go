package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"

	"slipway/api"
	"slipway/server/control"
)

// listedImages stands for the registry in exports and imports of builds. An archive of its own is a
// list; of another, it takes each file for an image.
type listedImages struct{}

// Load implements control.Images.
func (listedImages) Load(_ context.Context, repo string, archive io.Reader) (out []control.LoadedImage, err error) {
	text, err := io.ReadAll(archive)
	if err != nil {
		return nil, err
	}
	var list map[string]api.Image
	if json.Unmarshal(text, &list) != nil {
		return []control.LoadedImage{{Image: api.Image{Repository: repo, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(text))}}}, nil
	}
	for tag, image := range list {
		out = append(out, control.LoadedImage{Tags: []string{tag}, Image: image})
	}
	return out, nil
}

// Save implements control.Images.
func (listedImages) Save(_ context.Context, _ string, images map[string]api.Image) (control.ImageArchive, error) {
	text, err := json.Marshal(images)
	return listing(text), err
}

type listing []byte

func (l listing) Size() int64 { return int64(len(l)) }

func (l listing) Write(_ context.Context, w io.Writer) error {
	_, err := w.Write(l)
	return err
}
