package build

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	goruntime "runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"slipway/api"
)

// mirror copies the image of a service that is not built into the app's repository, for this
// machine's platform only, byte for byte. Like a build it looks in the rack's registry first.
func (b *Builder) mirror(ctx context.Context, job *Job, image string) (api.Image, error) {
	started := time.Now()
	what := fmt.Sprintf("image %q", image)
	upstream := upstreamTransport(egress{deny: b.config.Deny, local: net.InterfaceAddrs})
	defer upstream.CloseIdleConnections()

	out, err := copyImage(ctx, job.App, image, b.rack.Transport, foreign{upstream, job.Build.Registries})
	if err != nil {
		err = mirrorError(ctx, what, err)
		if api.CodeOf(err) != api.CodeUnavailable {
			return out, err
		}
		earlier, e := earlierCopy(ctx, job.App, image, b.rack.Transport)
		if e != nil {
			return out, err // of the two, the one that says what to do
		}
		job.Log("stderr", fmt.Sprintf("warning: %v", err))
		job.Log("stderr", "warning: the copy of an earlier build is used, "+earlier.Ref())
		return earlier, nil
	}
	job.Log("stdout", fmt.Sprintf("mirrored %s to %s (%s) in %s", image, out.Ref(), out.Size, time.Since(started).Round(time.Millisecond)))
	return out, nil
}

// copyImage finds an image and pushes it to the app's repository. What a tag names is asked for
// once: the rest goes by digest, and every byte is checked against it.
func copyImage(ctx context.Context, app api.AppName, image string, rack http.RoundTripper, upstream foreign) (api.Image, error) {
	sources, err := mirrorSources(app, image, rack, upstream)
	if err != nil {
		return api.Image{}, err
	}
	found, err := pullFirst(ctx, sources)
	if err != nil {
		return api.Image{}, err
	}
	if err := checkManifest(found); err != nil {
		return api.Image{}, err
	}
	digest, err := found.Digest()
	if err != nil {
		return api.Image{}, err
	}
	to, err := name.NewTag(fmt.Sprintf("%s/%s:mirror-%s", api.RackHost, app, digest.Hex[:12]))
	if err != nil {
		return api.Image{}, err
	}
	if err := remote.Write(to, found, remote.WithContext(ctx), remote.WithTransport(rack)); err != nil {
		return api.Image{}, err
	}
	last, err := earlierTag(app, image)
	if err != nil {
		return api.Image{}, err
	}
	if err := remote.Tag(last, found, remote.WithContext(ctx), remote.WithTransport(rack)); err != nil {
		return api.Image{}, err
	}
	size, err := imageSize(found)
	return api.Image{Repository: string(app), Digest: digest.String(), Size: size}, err
}

// earlierTag names, in the app's repository, what an image's name led to last.
func earlierTag(app api.AppName, image string) (name.Tag, error) {
	sum := sha256.Sum256([]byte(image))
	return name.NewTag(fmt.Sprintf("%s/%s:last-%x", api.RackHost, app, sum[:12]))
}

// earlierCopy finds what was mirrored before, for the time that a registry is out of reach.
func earlierCopy(ctx context.Context, app api.AppName, image string, rack http.RoundTripper) (api.Image, error) {
	last, err := earlierTag(app, image)
	if err != nil {
		return api.Image{}, err
	}
	found, err := remote.Image(last, remote.WithContext(ctx), remote.WithTransport(rack))
	if err != nil {
		return api.Image{}, err
	}
	digest, err := found.Digest()
	if err != nil {
		return api.Image{}, err
	}
	size, err := imageSize(found)
	return api.Image{Repository: string(app), Digest: digest.String(), Size: size}, err
}

// upstreamTransport may go where a build step may.
func upstreamTransport(e egress) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: e.control}
	return &http.Transport{DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		ResponseHeaderTimeout: answerMax}
}

// answerMax is how long a registry may think.
const answerMax = time.Minute

// boundedAnswers cuts what a registry says beside the content of blobs: manifests and tokens are
// read into memory.
type boundedAnswers struct{ next http.RoundTripper }

// documentMax is more than any manifest or configuration has, in bytes.
const documentMax = 8 << 20

// RoundTrip implements http.RoundTripper.
func (b boundedAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err == nil && !strings.Contains(req.URL.Path, "/blobs/") {
		resp.Body = http.MaxBytesReader(nil, resp.Body, documentMax)
	}
	return resp, err
}

// checkManifest refuses what can be read in two ways, and what would take too much memory.
func checkManifest(image v1.Image) error {
	raw, err := image.RawManifest()
	if err != nil {
		return err
	}
	var doc struct {
		Config    v1.Descriptor
		Manifests json.RawMessage
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return api.Errorf(api.CodeInvalid, "its manifest is not JSON: %w", err)
	}
	if doc.Manifests != nil {
		return api.Errorf(api.CodeInvalid, "its manifest is an image and a list of images at once")
	}
	if doc.Config.Size > documentMax {
		return api.Errorf(api.CodeInvalid, "its configuration has %s, the limit is %s", api.Bytes(doc.Config.Size), api.Bytes(documentMax))
	}
	return nil
}

// mirrorSource is one place where an image may be.
type mirrorSource struct {
	ref       name.Reference
	transport http.RoundTripper
	login     api.RegistryLogin // none for a registry that needs none
	auth      authn.Authenticator
}

func mirrorSources(app api.AppName, image string, rack http.RoundTripper, upstream foreign) ([]mirrorSource, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "image %.200q is not a name with an optional tag or digest: %w", image, err)
	}
	repository := ref.Context().RepositoryStr()
	own := ref.Context().RegistryStr() == api.RackHost
	if own && !strings.Contains(repository, "/") && repository != string(app) {
		return nil, api.Errorf(api.CodeDenied, "image %q belongs to the app %q", image, repository)
	}
	separator := ":"
	if strings.HasPrefix(ref.Identifier(), "sha256:") {
		separator = "@"
	}
	inRack, err := name.ParseReference(api.RackHost + "/" + repository + separator + ref.Identifier())
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "image %.200q: %w", image, err)
	}
	if own {
		return []mirrorSource{{ref: inRack, transport: rack, auth: authn.Anonymous}}, nil
	}
	origin := mirrorSource{ref: ref, transport: boundedAnswers{upstream}}
	origin.login, origin.auth = upstream.login(ref.Context().RegistryStr())
	if strings.Contains(repository, "/") {
		return []mirrorSource{{ref: inRack, transport: rack, auth: authn.Anonymous}, origin}, nil
	}
	return []mirrorSource{origin}, nil
}

// pullFirst returns the image from the first source that has it. Without one, the error is that
// of the last, where the name leads.
func pullFirst(ctx context.Context, sources []mirrorSource) (v1.Image, error) {
	var last error
	for _, s := range sources {
		d, err := remote.Get(s.ref, remote.WithContext(ctx), remote.WithTransport(s.transport), remote.WithAuth(s.auth),
			remote.WithPlatform(v1.Platform{OS: "linux", Architecture: goruntime.GOARCH}))
		if err == nil {
			return d.Image()
		}
		err = refused(s.login, err)
		if last != nil {
			err = fmt.Errorf("%w (before that: %v)", err, last) //nolint:errorlint // it does not decide
		}
		last = err
	}
	return nil, last
}

var lieText = regexp.MustCompile(`error verifying|does not match expected size|unexpected EOF`)

// mirrorError says whether the image does not exist or cannot be reached now.
func mirrorError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: cancelled: %w", what, context.Cause(ctx))
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		return api.Errorf(e.Code, "%s: %w", what, err)
	}
	if t, ok := errors.AsType[*transport.Error](err); ok {
		switch t.StatusCode {
		case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden:
			return api.Errorf(api.CodeInvalid, "%s does not exist, or needs a login, which is given with slipway registries add: %w", what, err)
		case http.StatusBadRequest:
			return api.Errorf(api.CodeInvalid, "%s is broken: the rack's registry refuses it: %w", what, err)
		case http.StatusInsufficientStorage:
			return api.Errorf(api.CodeExhausted, "%s: %w", what, err)
		}
	}
	if strings.Contains(err.Error(), "no child with platform") || strings.Contains(err.Error(), "unsupported MediaType") {
		return api.Errorf(api.CodeInvalid, "%s cannot run on linux/%s: %w", what, goruntime.GOARCH, err)
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge || lieText.MatchString(err.Error()) {
		return api.Errorf(api.CodeInvalid, "%s is broken: its registry does not deliver what it promises: %w", what, err)
	}
	return api.Errorf(api.CodeUnavailable, "%s: the rack's registry does not have it, and its own cannot be reached: %w", what, err)
}

// size asks the rack's registry how large an image is.
func (b *Builder) size(ctx context.Context, image api.Image) (api.Bytes, error) {
	url := fmt.Sprintf("https://%s/v2/%s/manifests/%s", api.RackHost, image.Repository, image.Digest)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", string(types.OCIManifestSchema1))
	resp, err := b.rack.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("read manifest %s: %s", image.Ref(), resp.Status)
	}
	m, err := v1.ParseManifest(io.LimitReader(resp.Body, documentMax))
	if err != nil {
		return 0, fmt.Errorf("read manifest %s: %w", image.Ref(), err)
	}
	return manifestSize(m), nil
}

func imageSize(image v1.Image) (api.Bytes, error) {
	m, err := image.Manifest()
	if err != nil {
		return 0, err
	}
	return manifestSize(m), nil
}

// manifestSize is what a node has to pull: layers and configuration, compressed.
func manifestSize(m *v1.Manifest) api.Bytes {
	size := m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return api.Bytes(size)
}
