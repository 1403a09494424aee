package control

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// Images is what builds need of the registry to leave the rack and to come into it.
type Images interface {
	// Load stores the images of an archive under a repository.
	Load(ctx context.Context, repo string, archive io.Reader) ([]LoadedImage, error)
	// Save prepares an archive of images, by the tags that they get there.
	Save(ctx context.Context, repo string, images map[string]api.Image) (ImageArchive, error)
}

// LoadedImage is an image of an archive, with the tags that it had there.
type LoadedImage struct {
	Tags  []string
	Image api.Image
}

// ImageArchive is a file to be written.
type ImageArchive interface {
	Size() int64 // bytes
	Write(ctx context.Context, w io.Writer) error
}

const (
	// buildFile is the description in the archive of a build; buildFileMax bounds it.
	buildFile    = "build.json"
	buildFileMax = 4 * api.MiB
)

// archivedBuild is build.json, as racks of Convox write it.
type archivedBuild struct {
	ID          string `json:"id"`
	App         string `json:"app"`
	Description string `json:"description"`
	Manifest    string `json:"manifest"`
	GitSHA      string `json:"git-sha,omitempty"`
}

// ExportBuild sends a build that is complete, with its images.
func (s *Server) ExportBuild(r *pb.ObjectRequest, stream grpc.ServerStreamingServer[pb.BuildChunk]) error {
	ctx := stream.Context()
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return pb.Error(err)
	}
	b, err := findBuild(v, a, r.GetId())
	if err != nil {
		return pb.Error(err)
	}
	if b.Status != api.BuildComplete {
		return pb.Error(api.Errorf(api.CodeConflict, "build %s is %s; only a complete one can be exported", b.ID, b.Status))
	}
	if s.cfg.Images == nil {
		return pb.Error(api.Errorf(api.CodeUnavailable, "this server has no images"))
	}
	out := bufio.NewWriterSize(pieces(func(b []byte) error { return stream.Send(&pb.BuildChunk{Data: b}) }), pieceSize)
	if err := s.writeBuild(ctx, b, out); err != nil {
		return pb.Error(fmt.Errorf("export build %s: %w", b.ID, err))
	}
	return pb.Error(out.Flush())
}

// writeBuild writes the archive of a build. Layers are compressed already.
func (s *Server) writeBuild(ctx context.Context, b *api.Build, w io.Writer) error {
	tags := map[string]api.Image{}
	for service, image := range b.Images {
		tags[fmt.Sprintf("%s:%s.%s", b.App, service, b.ID)] = image
	}
	images, err := s.cfg.Images.Save(ctx, string(b.App), tags)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(archivedBuild{string(b.ID), string(b.App), b.Description, b.Manifest, b.GitSHA}, "", "  ")
	if err != nil {
		return err
	}
	packed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	out := tar.NewWriter(packed)
	header := func(name string, size int64) error {
		return out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: size, ModTime: b.Ended})
	}
	if err := header(buildFile, int64(len(text))); err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	if err := header(fmt.Sprintf("%s.%s.tar", b.App, b.ID), images.Size()); err != nil {
		return err
	}
	if err := images.Write(ctx, out); err != nil {
		return err
	}
	return errors.Join(out.Close(), packed.Close())
}

// ImportBuild stores the images of an archive as they come, and makes a build of them. The leader
// makes its release, as of every build.
func (s *Server) ImportBuild(stream grpc.ClientStreamingServer[pb.ImportBuildRequest, pb.Document]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	ctx := stream.Context()
	_, a, err := s.readApp(ctx, first.GetApp())
	if err != nil {
		return pb.Error(err)
	}
	if s.cfg.Images == nil {
		return pb.Error(api.Errorf(api.CodeUnavailable, "this server keeps no images"))
	}
	found, images, err := s.readBuild(ctx, a.Name, &chunks[*pb.ImportBuildRequest]{recv: stream.Recv, rest: first.GetChunk()})
	if err != nil {
		return pb.Error(fmt.Errorf("import a build: %w", err))
	}
	id, err := s.createImported(ctx, a.Name, first.GetRequestId(), found, images)
	if err != nil {
		return pb.Error(err)
	}
	build, err := s.GetBuild(ctx, &pb.ObjectRequest{App: string(a.Name), Id: string(id)})
	if err != nil {
		return err
	}
	return stream.SendAndClose(build)
}

// createImported proposes the build of an archive whose images are in the registry.
func (s *Server) createImported(ctx context.Context, app api.AppName, requestID string, found archivedBuild, images map[api.ServiceName]api.Image) (api.BuildID, error) {
	v, a, err := s.readApp(ctx, string(app)) // once more: the upload may have taken long
	if err != nil {
		return "", err
	}
	if a.Deleting {
		return "", api.Errorf(api.CodeConflict, "app %q is being deleted", a.Name)
	}
	req := s.request(ctx, requestID)
	build, err := s.newBuild(v, a, req.ids.Build(), &pb.CreateBuildRequest{
		App: string(app), Description: found.Description, GitSha: found.GitSHA, Manifest: found.Manifest, ManifestFile: "convox.yml",
	}, true) // whoever imports an app sends its build before its environment
	if err != nil {
		return "", err
	}
	build.Author, build.Reason, build.Images = req.actor, req.reason, map[api.ServiceName]api.Image{}
	for _, spec := range build.Services {
		image, ok := images[spec.Name]
		if !ok {
			return "", api.Errorf(api.CodeInvalid, "the archive has no image for service %q; it has some for: %s", spec.Name, strings.Join(servicesOf(images), ", "))
		}
		build.Images[spec.Name] = image
	}
	_, err = s.propose(ctx, req, "build", state.CreateBuild{Build: *build})
	return build.ID, err
}

func servicesOf(images map[api.ServiceName]api.Image) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(images)) {
		out = append(out, string(name))
	}
	return out
}

// readBuild reads the archive of a build, and stores its images.
func (s *Server) readBuild(ctx context.Context, app api.AppName, r io.Reader) (found archivedBuild, images map[api.ServiceName]api.Image, err error) {
	images = map[api.ServiceName]api.Image{}
	unpacked, err := gzip.NewReader(r)
	if err != nil {
		return found, nil, unreadable(err)
	}
	for in := tar.NewReader(unpacked); ; {
		h, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			if found.Manifest == "" {
				return found, nil, api.Errorf(api.CodeInvalid, "the archive has no %s with a manifest; make one with: builds export", buildFile)
			}
			return found, images, nil
		case err != nil:
			return found, nil, unreadable(err)
		case h.Typeflag != tar.TypeReg:
			continue
		}
		switch name := path.Base(h.Name); {
		case name == buildFile:
			err = readDescription(in, &found)
		case path.Ext(name) == ".tar":
			err = s.loadImages(ctx, app, name, in, images)
		}
		if err != nil {
			return found, nil, fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
}

func unreadable(err error) error {
	return api.Errorf(api.CodeInvalid, "the archive cannot be unpacked: %w", err)
}

func readDescription(r io.Reader, found *archivedBuild) error {
	text, err := io.ReadAll(io.LimitReader(r, int64(buildFileMax)+1))
	switch {
	case err != nil:
		return unreadable(err)
	case len(text) > int(buildFileMax):
		return api.Errorf(api.CodeExhausted, "it is larger than %s", buildFileMax)
	}
	if err := json.Unmarshal(text, found); err != nil {
		return api.Errorf(api.CodeInvalid, "it cannot be read: %w", err)
	}
	return nil
}

// loadImages stores the images of one file. Racks of Convox of generation 2 save all images of a
// build in one, with tags as in shop:web.BABCDEFGHI; those of generation 3 one in each, which is
// named web.BABCDEFGHI.tar.
func (s *Server) loadImages(ctx context.Context, app api.AppName, file string, r io.Reader, into map[api.ServiceName]api.Image) error {
	loaded, err := s.cfg.Images.Load(ctx, string(app), r)
	if err != nil {
		return err
	}
	for _, l := range loaded {
		for _, tag := range l.Tags {
			if service, ok := serviceOfTag(tag); ok {
				into[service] = l.Image
			}
		}
	}
	if service, _, _ := strings.Cut(file, "."); len(loaded) == 1 && into[api.ServiceName(service)].Digest == "" {
		into[api.ServiceName(service)] = loaded[0].Image
	}
	return nil
}

// serviceOfTag returns the service that an image belongs to by its tag: "registry:5000/shop:web.B1".
func serviceOfTag(tag string) (api.ServiceName, bool) {
	colon := strings.LastIndexByte(tag, ':')
	if colon < strings.LastIndexByte(tag, '/') {
		return "", false
	}
	service, build, ok := strings.Cut(tag[colon+1:], ".")
	return api.ServiceName(service), ok && service != "" && build != ""
}
