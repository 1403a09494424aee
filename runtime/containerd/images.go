package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway/api"
	"slipway/runtime"
)

// configMax bounds an image's configuration, in bytes.
const configMax = 4 << 20

// Pull fetches and unpacks an image.
func (e *Engine) Pull(ctx context.Context, ref string, progress func(done, total api.Bytes)) (runtime.ImageInfo, error) {
	info, err := e.pulls.Do(ctx, ref, func(ctx context.Context) (runtime.ImageInfo, error) {
		// Asked here and not before: a fetch may end between the question and the call.
		if info, err := e.Image(ctx, ref); api.CodeOf(err) != api.CodeNotFound {
			return info, err
		}
		if err := e.fetch(ctx, ref); err != nil {
			return runtime.ImageInfo{}, err
		}
		return e.Image(ctx, ref)
	})
	if err == nil && progress != nil {
		progress(info.Size, info.Size)
	}
	return info, err
}

// fetch takes an image from the registry. Fetches go on where the last one ended, so that bytes
// of a broken answer would spoil every later one: they are dropped, and there is one more try.
func (e *Engine) fetch(ctx context.Context, ref string) (err error) {
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: e.cfg.Hosts})
	for range 2 {
		_, err = e.client.Pull(ctx, ref, client.WithPullUnpack, client.WithPullSnapshotter(snapshotter), client.WithResolver(resolver),
			client.WithImageHandlerWrapper(registryOnly))
		if err == nil {
			return nil
		}
		if !errdefs.IsFailedPrecondition(err) {
			break
		}
		if dropped := e.dropPartial(ctx, err); dropped != nil {
			return fmt.Errorf("image %s: %w", ref, errors.Join(err, dropped))
		}
	}
	return fetchError(ref, err)
}

// dropPartial removes the half-fetched content that an error names.
func (e *Engine) dropPartial(ctx context.Context, spoilt error) error {
	store := e.client.ContentStore()
	list, err := store.ListStatuses(ctx)
	for _, s := range list {
		if strings.Contains(spoilt.Error(), s.Ref) {
			err = errors.Join(err, ignoreNotFound(store.Abort(ctx, s.Ref)))
		}
	}
	return err
}

// registryOnly keeps the fetch at the registry: a manifest may name other addresses for its
// layers, which would make the node ask whatever an image's author likes.
func registryOnly(next images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := next.Handle(ctx, desc)
		for i := range children {
			children[i].URLs = nil
		}
		return children, err
	})
}

// damage is what containerd says of images that contradict themselves.
var damage = []string{"wrong diff id", "number of layers and diffids", "unmarshal", "media-type", "invalid descriptor", "invalid tar header", "invalid digest"}

// isDamaged reports whether an image that has arrived can never be unpacked.
func isDamaged(err error) bool {
	text := strings.ToLower(err.Error())
	torn := strings.Contains(text, "failed to extract layer") && strings.Contains(text, "unexpected eof")
	return torn || errdefs.IsFailedPrecondition(err) || errdefs.IsInvalidArgument(err) ||
		slices.ContainsFunc(damage, func(sign string) bool { return strings.Contains(text, sign) })
}

// fetchError says what a failed pull means: whether to try again, and whom to ask.
func fetchError(ref string, err error) error {
	status, answered := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	_, network := errors.AsType[net.Error](err)
	code := api.CodeOf(classify(err))
	switch {
	case code == api.CodeNotFound || code == api.CodeDenied || errors.Is(err, context.Canceled):
		return fmt.Errorf("image %s: %w", ref, classify(err))
	case errors.Is(err, docker.ErrInvalidAuthorization), answered && (status.StatusCode == 401 || status.StatusCode == 403):
		return api.Errorf(api.CodeDenied, "image %s: the registry refuses: %w", ref, err)
	case answered && status.StatusCode == 404:
		return api.Errorf(api.CodeNotFound, "image %s: not in the registry: %w", ref, err)
	case isDamaged(err):
		return api.Errorf(api.CodeInvalid, "image %s is damaged: %w", ref, err)
	case network, answered, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return api.Errorf(api.CodeUnavailable, "image %s: the registry does not answer: %w", ref, err)
	}
	return fmt.Errorf("image %s: %w", ref, classify(err))
}

// Image returns an unpacked image.
func (e *Engine) Image(ctx context.Context, ref string) (runtime.ImageInfo, error) {
	_, d, err := e.image(ctx, ref)
	return d.info, err
}

// description is what an image says of itself. It belongs to the digest and is never wrong.
type description struct {
	info   runtime.ImageInfo
	layers string // the snapshot of all its layers, where it is unpacked
}

// image returns an unpacked image and its description.
func (e *Engine) image(ctx context.Context, ref string) (client.Image, description, error) {
	img, err := e.client.GetImage(ctx, ref)
	if err != nil {
		return nil, description{}, fmt.Errorf("image %s: %w", ref, classify(err))
	}
	d, err := e.description(ctx, img)
	if err != nil {
		return nil, d, err
	}
	if _, err := e.client.SnapshotService(snapshotter).Stat(ctx, d.layers); err != nil {
		return nil, d, fmt.Errorf("image %s is not unpacked: %w", ref, classify(err))
	}
	return img, d, nil
}

// description describes an image; it is read once.
func (e *Engine) description(ctx context.Context, img client.Image) (description, error) {
	key := img.Target().Digest
	known, ok := e.described.Load(key)
	if ok {
		d := known.(description)
		d.info.Ref = img.Name()
		return d, nil
	}
	info, err := e.readImage(ctx, img)
	if err != nil {
		return description{}, err
	}
	layers, err := img.RootFS(ctx)
	if err != nil {
		return description{}, fmt.Errorf("layers of image %s: %w", img.Name(), classify(err))
	}
	d := description{info: info, layers: identity.ChainID(layers).String()}
	e.described.Store(key, d)
	return d, nil
}

func (e *Engine) readImage(ctx context.Context, img client.Image) (runtime.ImageInfo, error) {
	desc, err := img.Config(ctx)
	if err != nil {
		return runtime.ImageInfo{}, fmt.Errorf("configuration of image %s: %w", img.Name(), classify(err))
	}
	if desc.Size > configMax {
		return runtime.ImageInfo{}, api.Errorf(api.CodeInvalid, "configuration of image %s has %s, the limit is %s", img.Name(), api.Bytes(desc.Size), api.Bytes(configMax))
	}
	b, err := content.ReadBlob(ctx, img.ContentStore(), desc)
	if err != nil {
		return runtime.ImageInfo{}, fmt.Errorf("configuration of image %s: %w", img.Name(), classify(err))
	}
	var conf ocispec.Image
	if err := json.Unmarshal(b, &conf); err != nil {
		return runtime.ImageInfo{}, api.Errorf(api.CodeInvalid, "configuration of image %s: %w", img.Name(), err)
	}
	size, err := img.Size(ctx)
	if err != nil {
		return runtime.ImageInfo{}, fmt.Errorf("size of image %s: %w", img.Name(), classify(err))
	}
	return runtime.ImageInfo{
		Ref: img.Name(), Entrypoint: conf.Config.Entrypoint, Cmd: conf.Config.Cmd, Env: conf.Config.Env,
		User: conf.Config.User, WorkDir: conf.Config.WorkingDir, StopSignal: conf.Config.StopSignal,
		Volumes: slices.Sorted(maps.Keys(conf.Config.Volumes)), Size: api.Bytes(size),
	}, nil
}

// ListImages returns every image, sorted by ref. One that cannot be described has a ref only.
func (e *Engine) ListImages(ctx context.Context) ([]runtime.ImageInfo, error) {
	list, err := e.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", classify(err))
	}
	out := make([]runtime.ImageInfo, 0, len(list))
	for _, i := range list {
		d, err := e.description(ctx, client.NewImage(e.client, i))
		if err != nil {
			d.info = runtime.ImageInfo{Ref: i.Name}
		}
		out = append(out, d.info)
	}
	slices.SortFunc(out, func(a, b runtime.ImageInfo) int { return strings.Compare(a.Ref, b.Ref) })
	return out, nil
}

// RemoveImage forgets an image.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	if img, err := e.client.ImageService().Get(ctx, ref); err == nil {
		e.described.Delete(img.Target.Digest)
	}
	if err := ignoreNotFound(e.client.ImageService().Delete(ctx, ref)); err != nil {
		return fmt.Errorf("remove image %s: %w", ref, classify(err))
	}
	return nil
}
