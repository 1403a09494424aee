package agent

import (
	"context"
	"io"
	"time"

	"slipway/agent/build"
	"slipway/agent/logs"
	"slipway/api"
	"slipway/api/pb"
	"slipway/runtime/logfmt"
)

// workshop runs image builds: source from a server, log into the process's own.
type workshop struct {
	builder *build.Builder
	agents  pb.AgentsClient
	logs    *logs.Store
}

var _ builder = (*workshop)(nil)

// Build runs one build to its end.
func (w *workshop) Build(ctx context.Context, a *api.Assignment) (map[api.ServiceName]api.Image, error) {
	dir, err := w.logs.Dir(a.Process, a.App, a.Service)
	if err != nil {
		return nil, err
	}
	log, err := logfmt.NewWriter(dir, 0)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "log of build %s: %w", a.Build.ID, err)
	}
	defer log.Close(true)
	return w.builder.Build(ctx, build.Job{
		App: a.App, Build: *a.Build, Fetch: w.fetch,
		Log: func(stream, text string) {
			s := logfmt.Stdout
			if stream == "stderr" {
				s = logfmt.Stderr
			}
			log.Write(s, time.Now(), []byte(text+"\n"))
		},
	})
}

// fetch streams the source of a build from a server.
func (w *workshop) fetch(ctx context.Context, digest string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := w.agents.FetchSource(ctx, &pb.FetchSourceRequest{Digest: digest})
	if err != nil {
		cancel()
		return nil, pb.FromError(err)
	}
	return &sourceReader{stream: stream, cancel: cancel}, nil
}

// sourceReader reads the chunks of a source.
type sourceReader struct {
	stream pb.Agents_FetchSourceClient
	rest   []byte
	cancel context.CancelFunc
}

// Read implements io.Reader.
func (r *sourceReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		c, err := r.stream.Recv()
		if err == io.EOF {
			return 0, io.EOF
		}
		if err != nil {
			return 0, pb.FromError(err)
		}
		r.rest = c.Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends the transfer.
func (r *sourceReader) Close() error {
	r.cancel()
	return nil
}
