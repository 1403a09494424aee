package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway/agent/build"
	"slipway/agent/logs"
	"slipway/api"
	"slipway/api/pb"
)

// sources is a server that has one source, in chunks, some of them empty.
type sources struct {
	pb.AgentsClient
	data []byte
	err  error // after the data, in place of the end
	ctx  context.Context
}

// FetchSource implements pb.AgentsClient.
func (s *sources) FetchSource(ctx context.Context, r *pb.FetchSourceRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[pb.Chunk], error) {
	if r.Digest != "sha256:known" {
		return nil, status.Error(codes.NotFound, "object is not in the store")
	}
	s.ctx = ctx
	return &sourceStream{from: s}, nil
}

type sourceStream struct {
	grpc.ClientStream
	from *sources
	n    int
}

// Recv implements grpc.ServerStreamingClient.
func (s *sourceStream) Recv() (*pb.Chunk, error) {
	s.n++
	if s.n%3 == 0 {
		return &pb.Chunk{}, nil
	}
	if len(s.from.data) == 0 {
		if s.from.err != nil {
			return nil, s.from.err
		}
		return nil, io.EOF
	}
	n := min(7, len(s.from.data))
	c := &pb.Chunk{Data: s.from.data[:n]}
	s.from.data = s.from.data[n:]
	return c, nil
}

func TestSourceIsReadInChunks(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a source in chunks ", 50)
	s := &sources{data: []byte(text)}
	w := &workshop{agents: s}
	r, err := w.fetch(t.Context(), "sha256:known")
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(r, []byte(text)); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil || s.ctx.Err() == nil {
		t.Errorf("closing it ends the transfer: %v, %v", err, s.ctx.Err())
	}
	s = &sources{data: []byte("half"), err: status.Error(codes.Unavailable, "the server has gone")}
	r, err = (&workshop{agents: s}).fetch(t.Context(), "sha256:known")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); string(got) != "half" || api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a transfer that breaks: %q, %v", got, err)
	}
}

// TestBuildFailsClearly runs builds that fail before they need the engine.
func TestBuildFailsClearly(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	if err := tw.WriteHeader(&tar.Header{Name: "main.go", Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := build.New(build.Config{Root: t.TempDir(), Cgroup: "none", Registry: build.Registry{Addr: "127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := logs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, c := range []struct {
		source, want string
		code         api.Code
		err          error
	}{
		{"sha256:known", "no Dockerfile in the source", api.CodeInvalid, nil},
		{"sha256:other", "is not in the store", api.CodeNotFound, nil},
		{"", "no source was uploaded", api.CodeInvalid, nil},
		{"sha256:known", "gone", api.CodeUnavailable, status.Error(codes.Unavailable, "gone")},
	} {
		s := &sources{data: archive.Bytes(), err: c.err}
		if c.err != nil {
			s.data = s.data[:600]
		}
		w := &workshop{builder: b, agents: s, logs: store}
		a := &api.Assignment{Process: "p1", App: "shop", Service: "build", Build: &api.BuildAssignment{
			ID: "B1", Source: c.source, Services: []api.ServiceSpec{{Name: "web", Build: &api.BuildSpec{Path: "."}}}}}
		if _, err := w.Build(t.Context(), a); api.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("code %q, want %q with %q: %v", api.CodeOf(err), c.code, c.want, err)
		}
	}
}
