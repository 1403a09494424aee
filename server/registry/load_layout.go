package registry

import (
	"context"
	"encoding/json"
	"runtime"

	"github.com/distribution/distribution/v3"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway/api"
)

// putLayout stores the manifests of the images of an OCI layout
// (github.com/opencontainers/image-spec/blob/main/image-layout.md), whose blobs are there. Of an
// image for several platforms it takes the one of this machine.
func (l *loader) putLayout(ctx context.Context) ([]Loaded, error) {
	var index imagespec.Index
	if err := json.Unmarshal(l.layout, &index); err != nil || len(index.Manifests) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "%s lists no images: %v", imagespec.ImageIndexFile, err)
	}
	var out []Loaded
	for _, desc := range index.Manifests {
		loaded, err := l.putDescribed(ctx, desc, 0)
		if err != nil {
			return nil, err
		}
		if tag := desc.Annotations[imagespec.AnnotationRefName]; tag != "" {
			loaded.Tags = []string{tag}
		}
		out = append(out, loaded)
	}
	return out, nil
}

// putDescribed stores the manifest that a descriptor leads to.
func (l *loader) putDescribed(ctx context.Context, desc imagespec.Descriptor, depth int) (Loaded, error) {
	if depth > depthMax {
		return Loaded{}, api.Errorf(api.CodeInvalid, "lists of images lie more than %d deep in one another", depthMax)
	}
	if _, ok := l.digests[desc.Digest]; !ok {
		return Loaded{}, api.Errorf(api.CodeInvalid, "the archive has no manifest %s", desc.Digest)
	}
	text, err := l.document(ctx, desc.Digest)
	if err != nil {
		return Loaded{}, err
	}
	if isIndex(desc.MediaType) {
		var index imagespec.Index
		if err := json.Unmarshal(text, &index); err != nil {
			return Loaded{}, api.Errorf(api.CodeInvalid, "list of images %s cannot be read: %w", desc.Digest, err)
		}
		one, err := ofThisMachine(index.Manifests)
		if err != nil {
			return Loaded{}, err
		}
		return l.putDescribed(ctx, one, depth+1)
	}
	manifest, _, err := distribution.UnmarshalManifest(desc.MediaType, text)
	if err != nil {
		return Loaded{}, api.Errorf(api.CodeInvalid, "manifest %s cannot be read: %w", desc.Digest, err)
	}
	out := Loaded{Digest: desc.Digest.String()}
	for _, ref := range manifest.References() {
		size, ok := l.digests[ref.Digest]
		if !ok {
			return Loaded{}, api.Errorf(api.CodeInvalid, "the archive has no blob %s, which manifest %s names", ref.Digest, desc.Digest)
		}
		out.Size += api.Bytes(size)
	}
	return out, l.putManifest(ctx, l.repo, desc.Digest, manifest)
}

func isIndex(mediaType string) bool {
	return mediaType == imagespec.MediaTypeImageIndex || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

// ofThisMachine chooses among the platforms of an image.
func ofThisMachine(all []imagespec.Descriptor) (imagespec.Descriptor, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	for _, desc := range all {
		if p := desc.Platform; p != nil && p.OS == "linux" && p.Architecture == runtime.GOARCH {
			return desc, nil
		}
	}
	return imagespec.Descriptor{}, api.Errorf(api.CodeInvalid, "the image is for %d platforms, and none of them is linux/%s", len(all), runtime.GOARCH)
}
