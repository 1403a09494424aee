package client

import (
	"context"
	"errors"
	"io"

	"slipway/api"
	"slipway/api/pb"
)

// chunkSize is how much of a source goes into one message, in bytes.
const chunkSize = 256 << 10

// HasSource reports whether the rack has a source of that digest.
func (c *Client) HasSource(ctx context.Context, app api.AppName, digest string) (bool, error) {
	r, err := c.rpc.HasSource(ctx, &pb.HasSourceRequest{App: string(app), Digest: digest})
	return r.GetPresent(), pb.FromError(err)
}

// UploadSource sends a source, a tar compressed with zstd or gzip, and returns its digest. An
// error of r ends the upload: nothing is kept of it.
func (c *Client) UploadSource(ctx context.Context, app api.AppName, r io.Reader) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.UploadSource(ctx)
	if err != nil {
		return "", pb.FromError(err)
	}
	if err := stream.Send(&pb.UploadSourceRequest{App: string(app)}); err == nil {
		err = sendChunks(r, func(chunk []byte) error { return stream.Send(&pb.UploadSourceRequest{Chunk: chunk}) })
		if err != nil && !errors.Is(err, io.EOF) {
			return "", wrap("read the source", err)
		}
	}
	// After a failed Send, the reason comes with the answer.
	reply, err := stream.CloseAndRecv()
	return reply.GetDigest(), pb.FromError(err)
}

// sendChunks sends what r delivers. io.EOF means that the far end takes no more.
func sendChunks(r io.Reader, send func([]byte) error) error {
	buf := make([]byte, chunkSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := send(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// Build is what a build is made from.
type Build struct {
	Source       string // digest of an uploaded source
	Manifest     string
	ManifestFile string
	Description  string
	GitSHA       string
	Options      api.BuildOptions
}

// CreateBuild begins a build.
func (c *Client) CreateBuild(ctx context.Context, app api.AppName, b Build) (api.BuildInfo, error) {
	return one[api.BuildInfo](c.rpc.CreateBuild(ctx, &pb.CreateBuildRequest{
		App: string(app), Source: b.Source, Manifest: b.Manifest, ManifestFile: b.ManifestFile,
		Description: b.Description, GitSha: b.GitSHA, Options: pb.Marshal(b.Options), RequestId: requestID(),
	}))
}

// Builds lists the builds of an app, newest first.
func (c *Client) Builds(ctx context.Context, app api.AppName) ([]api.BuildInfo, error) {
	return many[api.BuildInfo](c.rpc.ListBuilds(ctx, &pb.AppRequest{App: string(app)}))
}

// Build describes one build; "" is the newest.
func (c *Client) Build(ctx context.Context, app api.AppName, id string) (api.BuildInfo, error) {
	return one[api.BuildInfo](c.rpc.GetBuild(ctx, &pb.ObjectRequest{App: string(app), Id: id}))
}

// ExportBuild writes a build that is complete as a compressed tar: build.json, and the images as
// `docker save` writes them. "" is the newest.
func (c *Client) ExportBuild(ctx context.Context, app api.AppName, id string, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.ExportBuild(ctx, &pb.ObjectRequest{App: string(app), Id: id})
	if err != nil {
		return pb.FromError(err)
	}
	return writePieces(stream.Recv, "write the build", w)
}

// ImportBuild makes a build of what ExportBuild wrote, or a rack of Convox, and waits until it has
// its release.
func (c *Client) ImportBuild(ctx context.Context, app api.AppName, r io.Reader) (api.BuildInfo, error) {
	id, err := c.importBuild(ctx, app, r)
	if err != nil {
		return api.BuildInfo{}, err
	}
	if err := c.WatchBuild(ctx, app, id, true, func([]api.LogLine) error { return nil }); err != nil {
		return api.BuildInfo{}, err
	}
	b, err := c.Build(ctx, app, string(id))
	if err == nil && b.Failure != "" {
		err = api.Errorf(api.CodeInvalid, "build %s: %s", id, b.Failure)
	}
	return b, err
}

func (c *Client) importBuild(ctx context.Context, app api.AppName, r io.Reader) (api.BuildID, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.ImportBuild(ctx)
	if err != nil {
		return "", pb.FromError(err)
	}
	if err := stream.Send(&pb.ImportBuildRequest{App: string(app), RequestId: requestID()}); err == nil {
		err = sendChunks(r, func(chunk []byte) error { return stream.Send(&pb.ImportBuildRequest{Chunk: chunk}) })
		if err != nil && !errors.Is(err, io.EOF) {
			return "", wrap("read the build", err)
		}
	}
	// After a failed Send, the reason comes with the answer.
	b, err := one[api.BuildInfo](stream.CloseAndRecv())
	return b.ID, err
}

// WatchBuild calls see with the lines of a build's log. With follow, it lasts until the build
// has ended.
func (c *Client) WatchBuild(ctx context.Context, app api.AppName, id api.BuildID, follow bool, see func([]api.LogLine) error) error {
	stream, err := c.rpc.WatchBuild(ctx, &pb.WatchBuildRequest{App: string(app), Build: string(id), Follow: follow})
	if err != nil {
		return pb.FromError(err)
	}
	return eachLines(stream, see)
}
