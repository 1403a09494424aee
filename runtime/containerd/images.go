package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway/api"
	"slipway/runtime"
)

// configMax bounds an image's configuration, in bytes.
const configMax = 4 << 20

// pull is one fetch in progress; those who want the same image wait for it.
type pull struct {
	done chan struct{}
	err  error
}

// Pull fetches and unpacks an image.
func (e *Engine) Pull(ctx context.Context, ref string, progress func(done, total api.Bytes)) (runtime.ImageInfo, error) {
	if info, err := e.Image(ctx, ref); err == nil {
		return info, nil
	}
	e.mu.Lock()
	p := e.pulls[ref]
	if p != nil {
		e.mu.Unlock()
		select {
		case <-p.done:
		case <-ctx.Done():
			return runtime.ImageInfo{}, context.Cause(ctx)
		}
		if p.err != nil {
			return runtime.ImageInfo{}, p.err
		}
		return e.Image(ctx, ref)
	}
	p = &pull{done: make(chan struct{})}
	e.pulls[ref] = p
	e.mu.Unlock()
	p.err = e.fetch(ctx, ref)
	e.mu.Lock()
	delete(e.pulls, ref)
	e.mu.Unlock()
	close(p.done)
	if p.err != nil {
		return runtime.ImageInfo{}, p.err
	}
	info, err := e.Image(ctx, ref)
	if err == nil && progress != nil {
		progress(info.Size, info.Size)
	}
	return info, err
}

func (e *Engine) fetch(ctx context.Context, ref string) error {
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: e.cfg.Hosts})
	_, err := e.client.Pull(ctx, ref, client.WithPullUnpack, client.WithPullSnapshotter(snapshotter), client.WithResolver(resolver))
	if err != nil {
		return fmt.Errorf("image %s: %w", ref, classify(err))
	}
	return nil
}

// Image returns an unpacked image.
func (e *Engine) Image(ctx context.Context, ref string) (runtime.ImageInfo, error) {
	img, err := e.client.GetImage(ctx, ref)
	if err != nil {
		return runtime.ImageInfo{}, fmt.Errorf("image %s: %w", ref, classify(err))
	}
	unpacked, err := img.IsUnpacked(ctx, snapshotter)
	if err != nil {
		return runtime.ImageInfo{}, fmt.Errorf("image %s: %w", ref, classify(err))
	}
	if !unpacked {
		return runtime.ImageInfo{}, api.Errorf(api.CodeNotFound, "image %s is not unpacked", ref)
	}
	return e.describe(ctx, img)
}

func (e *Engine) describe(ctx context.Context, img client.Image) (runtime.ImageInfo, error) {
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
		info, err := e.describe(ctx, client.NewImage(e.client, i))
		if err != nil {
			info = runtime.ImageInfo{Ref: i.Name}
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b runtime.ImageInfo) int {
		if a.Ref < b.Ref {
			return -1
		}
		return 1
	})
	return out, nil
}

// RemoveImage forgets an image.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	if err := ignoreNotFound(e.client.ImageService().Delete(ctx, ref)); err != nil {
		return fmt.Errorf("remove image %s: %w", ref, classify(err))
	}
	return nil
}
