package registry

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/manifest/ocischema"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway/api"
)

const (
	// indexName is the file of an archive that tells what images it has.
	indexName = "manifest.json"
	// documentMax bounds each document that is read into memory, archiveFiles the files of an archive.
	documentMax  = 4 * api.MiB
	archiveFiles = 10_000
)

// Loaded is an image of an archive.
type Loaded struct {
	Tags   []string // as the archive names it: "registry/shop:web.B123"
	Digest string
	Size   api.Bytes // of its configuration and layers
}

// archived is an image in manifest.json of an archive, as `docker save` writes it.
type archived struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Load stores the images of an archive under one repository: one that `docker save` wrote, of any
// version, or an OCI layout. It reads the archive once and holds no layer in memory. GC leaves the
// images alone for Config.Grace.
func (r *Registry) Load(ctx context.Context, repo string, archive io.Reader) ([]Loaded, error) {
	repository, err := r.repository(ctx, repo)
	if err != nil {
		return nil, err
	}
	l := &loader{
		Registry: r, repo: repo, repository: repository,
		blobs: map[string]imagespec.Descriptor{}, digests: map[digest.Digest]int64{}, links: map[string]string{},
	}
	defer func() {
		for _, unpin := range l.unpin {
			unpin()
		}
	}()
	if err := l.read(ctx, archive); err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	if l.index == nil {
		out, err := l.putLayout(ctx)
		if err != nil {
			return nil, fmt.Errorf("load images: %w", err)
		}
		return out, nil
	}
	var out []Loaded
	for _, image := range l.index {
		loaded, err := l.put(ctx, image)
		if err != nil {
			return nil, fmt.Errorf("load image %s: %w", strings.Join(image.RepoTags, ", "), err)
		}
		out = append(out, loaded)
	}
	return out, nil
}

// loader is one run of Load.
type loader struct {
	*Registry
	repo       string
	repository distribution.Repository
	blobs      map[string]imagespec.Descriptor // stored, by the name of the file
	digests    map[digest.Digest]int64         // of the same, with their sizes
	links      map[string]string               // files that are others
	index      []archived                      // of docker save
	layout     []byte                          // index.json of an OCI layout
	unpin      []func()
}

// read stores the files of an archive, for their order says nothing, and reads its index.
func (l *loader) read(ctx context.Context, archive io.Reader) error {
	in := tar.NewReader(archive)
	for n := 0; ; n++ {
		h, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			if l.index == nil && l.layout == nil {
				return api.Errorf(api.CodeInvalid, "the archive has no %s and no %s; make it with: docker save", indexName, imagespec.ImageIndexFile)
			}
			return nil
		case err != nil:
			return api.Errorf(api.CodeInvalid, "the archive cannot be unpacked: %w", err)
		case n == archiveFiles:
			return api.Errorf(api.CodeExhausted, "the archive has more than %d files", archiveFiles)
		}
		switch name := path.Clean("/" + h.Name); h.Typeflag {
		case tar.TypeReg:
			switch name {
			case "/" + indexName:
				err = l.readIndex(in)
			case "/" + imagespec.ImageIndexFile:
				l.layout, err = readBounded(in)
			default:
				err = l.store(ctx, name, in)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", clipName(h.Name), err)
			}
		case tar.TypeSymlink:
			l.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			l.links[name] = path.Clean("/" + h.Linkname)
		}
	}
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, int64(documentMax)+1))
	if err == nil && len(text) > int(documentMax) {
		err = api.Errorf(api.CodeExhausted, "it is larger than %s", documentMax)
	}
	return text, err
}

func (l *loader) readIndex(r io.Reader) error {
	text, err := readBounded(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &l.index); err != nil || len(l.index) == 0 {
		return api.Errorf(api.CodeInvalid, "it lists no images: %v", err)
	}
	return nil
}

// store keeps a file as a blob.
func (l *loader) store(ctx context.Context, name string, r io.Reader) error {
	if l.full() {
		return api.Errorf(api.CodeExhausted, "%s", l.fullText())
	}
	w, err := l.repository.Blobs(ctx).Create(ctx)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer w.Close()
	// An upload that is dropped leaves nothing; after the commit there is none.
	defer w.Cancel(context.WithoutCancel(ctx))
	in, sum := bufio.NewReader(r), digest.SHA256.Digester()
	head, _ := in.Peek(4)        // a file may be shorter
	mediaType := layerType(head) // now: head is of the buffer that the copy uses
	size, err := io.Copy(io.MultiWriter(w, sum.Hash()), in)
	if errors.Is(err, syscall.ENOSPC) {
		return api.Errorf(api.CodeExhausted, "%s", l.fullText())
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	desc := imagespec.Descriptor{MediaType: mediaType, Digest: sum.Digest(), Size: size}
	unpin, err := l.pin(ctx, desc.Digest, nil)
	if err != nil {
		return err
	}
	l.unpin = append(l.unpin, unpin)
	if err := l.commit(ctx, w, desc); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	l.blobs[name], l.digests[desc.Digest] = desc, size
	return nil
}

// commit makes a blob of an upload, at a moment without GC.
func (l *loader) commit(ctx context.Context, w distribution.BlobWriter, desc imagespec.Descriptor) error {
	if err := l.gate.enter(ctx); err != nil {
		return err
	}
	defer l.gate.leave()
	if _, err := w.Commit(ctx, desc); err != nil {
		return err
	}
	hex := desc.Digest.Encoded()
	l.touch(blobData(hex), layerLink(l.repo, hex)) // they may have been there, and old
	return nil
}

// layerType tells the type of a layer by its first bytes.
func layerType(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return imagespec.MediaTypeImageLayerGzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return imagespec.MediaTypeImageLayerZstd
	}
	return imagespec.MediaTypeImageLayer
}

// put stores the manifest of an image whose files are there.
func (l *loader) put(ctx context.Context, image archived) (Loaded, error) {
	config, err := l.find(image.Config)
	if err != nil {
		return Loaded{}, err
	}
	config.MediaType = imagespec.MediaTypeImageConfig
	m := ocischema.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest, Config: config}
	out := Loaded{Tags: image.RepoTags, Size: api.Bytes(config.Size)}
	for _, name := range image.Layers {
		layer, err := l.find(name)
		if err != nil {
			return Loaded{}, err
		}
		m.Layers = append(m.Layers, layer)
		out.Size += api.Bytes(layer.Size)
	}
	if err := l.check(ctx, config, len(m.Layers)); err != nil {
		return Loaded{}, err
	}
	manifest, err := ocischema.FromStruct(m)
	if err != nil {
		return Loaded{}, fmt.Errorf("encode the manifest: %w", err)
	}
	_, payload, err := manifest.Payload()
	if err != nil {
		return Loaded{}, fmt.Errorf("encode the manifest: %w", err)
	}
	d := digest.FromBytes(payload)
	out.Digest = d.String()
	return out, l.putManifest(ctx, l.repo, d, manifest)
}

// find returns what a file of the archive was stored as.
func (l *loader) find(name string) (imagespec.Descriptor, error) {
	at := path.Clean("/" + name)
	for range 8 { // links to links
		if desc, ok := l.blobs[at]; ok {
			return desc, nil
		}
		next, ok := l.links[at]
		if !ok {
			break
		}
		at = next
	}
	return imagespec.Descriptor{}, api.Errorf(api.CodeInvalid, "the archive has no %s, which its %s names", clipName(name), indexName)
}

// check reports that a configuration is none of an image with so many layers.
func (l *loader) check(ctx context.Context, config imagespec.Descriptor, layers int) error {
	text, err := l.document(ctx, config.Digest)
	if err != nil {
		return err
	}
	var image imagespec.Image
	if err := json.Unmarshal(text, &image); err != nil {
		return api.Errorf(api.CodeInvalid, "its configuration cannot be read: %w", err)
	}
	if got := len(image.RootFS.DiffIDs); got != layers || slices.Contains(image.RootFS.DiffIDs, "") {
		return api.Errorf(api.CodeInvalid, "its configuration names %d layers, and the archive %d", got, layers)
	}
	return nil
}

// document reads a file of the archive that is no layer.
func (l *loader) document(ctx context.Context, d digest.Digest) ([]byte, error) {
	if size := l.digests[d]; size > int64(documentMax) {
		return nil, api.Errorf(api.CodeExhausted, "%s is larger than %s", d, documentMax)
	}
	text, err := l.repository.Blobs(ctx).Get(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d, err)
	}
	return text, nil
}

// clipName shortens a name of a stranger for an error.
func clipName(name string) string { return fmt.Sprintf("%.200q", name) }
