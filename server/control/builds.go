package control

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
	"slipway/manifest"
	"slipway/raftstore/state"
)

// HasSource reports whether a source is in the store already.
func (s *Server) HasSource(ctx context.Context, r *pb.HasSourceRequest) (*pb.HasSourceReply, error) {
	if _, _, err := s.readApp(ctx, r.GetApp()); err != nil {
		return nil, pb.Error(err)
	}
	return &pb.HasSourceReply{Present: s.cfg.Objects.Has(r.GetDigest())}, nil
}

// UploadSource stores a source. Its memory is that of one chunk, whatever the size.
func (s *Server) UploadSource(stream grpc.ClientStreamingServer[pb.UploadSourceRequest, pb.UploadSourceReply]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	ctx := stream.Context()
	if _, _, err := s.readApp(ctx, first.GetApp()); err != nil {
		return pb.Error(err)
	}
	digest, size, err := s.cfg.Objects.Put(ctx, &chunks[*pb.UploadSourceRequest]{recv: stream.Recv, rest: first.GetChunk()}, s.cfg.SourceMax)
	if err != nil {
		return pb.Error(err)
	}
	return stream.SendAndClose(&pb.UploadSourceReply{Digest: digest, Size: int64(size)})
}

// chunks reads an upload.
type chunks[M interface{ GetChunk() []byte }] struct {
	recv func() (M, error)
	rest []byte
}

// Read implements io.Reader.
func (c *chunks[M]) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		m, err := c.recv()
		if err != nil {
			return 0, err
		}
		c.rest = m.GetChunk()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// CreateBuild checks the manifest and stores a build; the steps of the leader do the rest.
func (s *Server) CreateBuild(ctx context.Context, r *pb.CreateBuildRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	if a.Deleting {
		return nil, pb.Error(api.Errorf(api.CodeConflict, "app %q is being deleted", a.Name))
	}
	req := s.request(ctx, r.GetRequestId())
	build, err := s.newBuild(v, a, req.ids.Build(), r, false)
	if err == nil {
		err = s.checkSource(build.Services, r.GetSource())
	}
	if err != nil {
		return nil, pb.Error(err)
	}
	build.Author, build.Reason = req.actor, req.reason
	if _, err := s.propose(ctx, req, "build", state.CreateBuild{Build: *build}); err != nil {
		return nil, pb.Error(err)
	}
	return s.GetBuild(ctx, &pb.ObjectRequest{App: r.GetApp(), Id: string(build.ID)})
}

// remarkMax bounds what a user says of a build, in bytes: lists show it.
const remarkMax = 4 << 10

// newBuild checks a request and makes the record of the build; lenient as in release.
func (s *Server) newBuild(v *state.View, a *api.App, id api.BuildID, r *pb.CreateBuildRequest, lenient bool) (*api.Build, error) {
	options, err := buildOptions(r.GetOptions())
	if err != nil {
		return nil, err
	}
	for what, text := range map[string]string{"description": r.GetDescription(), "commit": r.GetGitSha(), "name of the manifest": r.GetManifestFile()} {
		if len(text) > remarkMax {
			return nil, api.Errorf(api.CodeInvalid, "the %s is %d bytes long, the limit is %d", what, len(text), remarkMax)
		}
	}
	env := map[string]string{}
	if newest, ok := newestRelease(v, a.Name); ok {
		if env, err = s.releaseEnv(newest); err != nil {
			return nil, err
		}
	}
	m, err := manifest.Load(r.GetManifest(), manifest.Options{Env: env, SkipRequired: lenient, AllowPrivileged: s.cfg.AllowPrivileged})
	if err != nil {
		return nil, err
	}
	specs := m.Specs()
	if len(specs) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "the manifest has no services; there is nothing to build")
	}
	build := &api.Build{
		ID: id, App: a.Name, Description: r.GetDescription(), GitSHA: r.GetGitSha(), Source: r.GetSource(),
		Manifest: r.GetManifest(), ManifestFile: r.GetManifestFile(), Options: options,
		Services: specs,
	}
	return build, s.secrets.SealBuild(build, env)
}

func buildOptions(doc []byte) (api.BuildOptions, error) {
	if len(doc) == 0 {
		return api.BuildOptions{}, nil
	}
	return pb.Unmarshal[api.BuildOptions](doc)
}

// checkSource reports why services cannot be built, or nil.
func (s *Server) checkSource(specs []api.ServiceSpec, source string) error {
	if source != "" && !s.cfg.Objects.Has(source) {
		return api.Errorf(api.CodeNotFound, "source %s is not in the store; upload it again", source)
	}
	for i := range specs {
		if specs[i].Build != nil && source == "" {
			return api.Errorf(api.CodeInvalid, "service %q is built from source, and no source was uploaded", specs[i].Name)
		}
	}
	return nil
}

// ListBuilds lists the builds of an app, newest first.
func (s *Server) ListBuilds(ctx context.Context, r *pb.AppRequest) (*pb.Documents, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	builds := []api.BuildInfo{}
	for b := range v.Builds(a.Name) {
		builds = append(builds, buildInfo(b))
	}
	return docs(builds, nil)
}

// GetBuild describes one build; "" is the newest.
func (s *Server) GetBuild(ctx context.Context, r *pb.ObjectRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	b, err := findBuild(v, a, r.GetId())
	if err != nil {
		return nil, pb.Error(err)
	}
	return doc(buildInfo(b), nil)
}

// findBuild returns a build of an app; "" is the newest.
func findBuild(v *state.View, a *api.App, id string) (*api.Build, error) {
	var known []string
	for b := range v.Builds(a.Name) {
		if id == "" || string(b.ID) == id {
			return b, nil
		}
		known = append(known, string(b.ID))
	}
	if id == "" {
		return nil, api.Errorf(api.CodeNotFound, "app %q has no builds; make one with: slipway build -a %s", a.Name, a.Name)
	}
	return nil, api.NotFoundSee("build", id, known, "slipway builds -a "+string(a.Name))
}

func buildInfo(b *api.Build) api.BuildInfo {
	return api.BuildInfo{
		ID: b.ID, Status: b.Status, Release: b.Release, Deployment: b.Deployment, Promote: b.Options.Promote,
		Author: b.Author, Description: b.Description, GitSHA: b.GitSHA,
		Created: b.Created, Started: b.Started, Ended: b.Ended, Process: b.Process, Images: b.Images, Failure: b.Failure,
	}
}

// WatchBuild follows the log of a build. With follow, it lasts until the build has ended.
func (s *Server) WatchBuild(r *pb.WatchBuildRequest, stream grpc.ServerStreamingServer[pb.Frame]) error {
	ctx := stream.Context()
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return pb.Error(err)
	}
	b, err := findBuild(v, a, r.GetBuild())
	if err != nil {
		return pb.Error(err)
	}
	if r.GetFollow() {
		if b, err = s.waitBuildStarted(ctx, v, b, linesToClient(sender(stream.Send))); err != nil {
			return pb.Error(err)
		}
	}
	if b.Process != "" {
		q := api.LogQuery{App: a.Name, Process: b.Process, Follow: r.GetFollow() && !b.Status.Ended(), Previous: true}
		if err := s.buildLog(ctx, q, b.ID, stream.Send); err != nil && !errors.Is(err, io.EOF) {
			return pb.Error(err)
		}
	}
	if r.GetFollow() {
		if b, err = s.waitBuild(ctx, b.ID, func(b *api.Build) bool { return b.Status.Ended() }); err != nil {
			return pb.Error(err)
		}
	}
	code := int32(0)
	if b.Status == api.BuildFailed {
		code = 1
	}
	return stream.Send(&pb.Frame{Kind: &pb.Frame_Exit{Exit: &pb.Exit{Code: code}}})
}
