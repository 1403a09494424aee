package registry

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/manifest/ocischema"
	"github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway/api"
)

// Saved is an image to put into an archive.
type Saved struct {
	Tag    string // "shop:web.B123"
	Digest string
}

// Archive is what `docker load` and Load read: images with their layers as the registry has them.
type Archive struct {
	registry *Registry
	repo     string
	index    []byte
	blobs    []imagespec.Descriptor // each once
}

// Archive prepares an archive of images of one repository. What is not on this server yet comes
// from its peers first.
func (r *Registry) Archive(ctx context.Context, repo string, images []Saved) (*Archive, error) {
	a := &Archive{registry: r, repo: repo}
	var index []archived
	for _, image := range images {
		entry, err := a.add(ctx, image)
		if err != nil {
			return nil, fmt.Errorf("save image %s: %w", image.Tag, err)
		}
		index = append(index, entry)
	}
	var err error
	if a.index, err = json.Marshal(index); err != nil {
		return nil, fmt.Errorf("save images: %w", err)
	}
	return a, nil
}

func (a *Archive) add(ctx context.Context, image Saved) (archived, error) {
	if err := a.registry.Replicate(ctx, a.repo, image.Digest); err != nil {
		return archived{}, err
	}
	manifest, err := a.registry.localManifest(ctx, a.repo, digest.Digest(image.Digest))
	if err != nil {
		return archived{}, fmt.Errorf("read the manifest: %w", err)
	}
	config, layers, err := partsOf(manifest)
	if err != nil {
		return archived{}, err
	}
	entry := archived{Config: blobName(config), RepoTags: []string{image.Tag}}
	for _, desc := range append(slices.Clone(layers), config) {
		if !slices.ContainsFunc(a.blobs, func(have imagespec.Descriptor) bool { return have.Digest == desc.Digest }) {
			a.blobs = append(a.blobs, desc)
		}
	}
	for _, layer := range layers {
		entry.Layers = append(entry.Layers, blobName(layer))
	}
	return entry, nil
}

// partsOf returns what a manifest of one image is made of.
func partsOf(m distribution.Manifest) (config imagespec.Descriptor, layers []imagespec.Descriptor, err error) {
	switch m := m.(type) {
	case *ocischema.DeserializedManifest:
		return m.Config, m.Layers, nil
	case *schema2.DeserializedManifest:
		return m.Config, m.Layers, nil
	}
	return config, nil, api.Errorf(api.CodeInvalid, "it is for several platforms, and an archive has room for one")
}

// blobName is where a blob lies in an archive, as in an OCI layout.
func blobName(desc imagespec.Descriptor) string { return "blobs/sha256/" + desc.Digest.Encoded() }

// tarBlock is the unit of a tar, in bytes: a header takes one, a file is filled up to whole ones,
// and two end it.
const tarBlock = 512

// Size is the length of the archive, in bytes.
func (a *Archive) Size() int64 {
	size := int64(2 * tarBlock)
	add := func(n int64) { size += tarBlock + (n+tarBlock-1)/tarBlock*tarBlock }
	add(int64(len(a.index)))
	for _, desc := range a.blobs {
		add(desc.Size)
	}
	return size
}

// Write writes the archive.
func (a *Archive) Write(ctx context.Context, w io.Writer) error {
	repository, err := a.registry.repository(ctx, a.repo)
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	for _, desc := range a.blobs {
		if err := writeBlob(ctx, out, repository, desc); err != nil {
			return fmt.Errorf("save %s: %w", desc.Digest, err)
		}
	}
	if err := out.WriteHeader(fileHeader(indexName, int64(len(a.index)))); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	if _, err := out.Write(a.index); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	return nil
}

func writeBlob(ctx context.Context, out *tar.Writer, repository distribution.Repository, desc imagespec.Descriptor) error {
	blob, err := repository.Blobs(ctx).Open(ctx, desc.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := out.WriteHeader(fileHeader(blobName(desc), desc.Size)); err != nil {
		return err
	}
	_, err = io.Copy(out, blob)
	return err
}

// fileHeader is of the GNU format, whose headers are one block whatever the size of the file.
func fileHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, Format: tar.FormatGNU}
}
