package rest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zstd"

	"slipway/api"
)

const (
	// objectScheme begins the URL of an uploaded source: object://<app>/sha256:<digest>.
	objectScheme = "object://"
	// manifestMax bounds a manifest, unpackedMax what is unpacked to find it.
	manifestMax = api.MiB
	unpackedMax = 16 * api.GiB
	// windowMax bounds the memory that unpacking takes.
	windowMax = 64 * api.MiB
)

var digestRule = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// parseObject returns the digest of the source that a URL names.
func parseObject(url string, app api.AppName) (string, error) {
	of, digest, ok := strings.Cut(strings.TrimPrefix(url, objectScheme), "/")
	switch {
	case !ok || !strings.HasPrefix(url, objectScheme) || !digestRule.MatchString(digest):
		return "", api.Errorf(api.CodeInvalid, "parameter url: %q is none that the upload of a source answered; upload the source to /apps/%s/objects/tmp/NAME.tgz first", clip(url), app)
	case of != string(app):
		return "", api.Errorf(api.CodeInvalid, "parameter url: the source was uploaded to app %q, not to %q", clip(of), app)
	}
	return digest, nil
}

// manifest returns the text of the manifest in a source.
func (c *call) manifest(digest, name string) (string, error) {
	f, err := c.sources.Open(c, digest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return findManifest(f, name)
}

// findManifest looks for a file in a compressed tar, and unpacks no more than it has to.
func findManifest(r io.Reader, name string) (string, error) {
	unpacked, err := decompress(bufio.NewReader(r))
	if err != nil {
		return "", err
	}
	defer unpacked.Close()
	limited := &io.LimitedReader{R: unpacked, N: int64(unpackedMax)}
	in, want := tar.NewReader(limited), path.Clean("/"+name)
	for {
		h, err := in.Next()
		switch {
		case limited.N <= 0:
			return "", api.Errorf(api.CodeExhausted, "the source is larger than %s unpacked", unpackedMax)
		case errors.Is(err, io.EOF):
			return "", api.Errorf(api.CodeInvalid, "the source has no %s; name the manifest with -m, and see that .dockerignore keeps it", clip(name))
		case err != nil:
			return "", api.Errorf(api.CodeInvalid, "the source cannot be unpacked: %w", err)
		case h.Typeflag != tar.TypeReg || path.Clean("/"+h.Name) != want:
			continue
		case h.Size > int64(manifestMax):
			return "", api.Errorf(api.CodeExhausted, "the manifest %s is larger than %s", clip(name), manifestMax)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			return "", api.Errorf(api.CodeInvalid, "the source cannot be unpacked: %w", err)
		}
		return string(text), nil
	}
}

// decompress unpacks gzip or zstd, whichever it is.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	head, _ := r.Peek(4) // a short one is neither
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "the source cannot be unpacked: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(uint64(windowMax)), zstd.WithDecoderMaxMemory(uint64(windowMax)))
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "the source cannot be unpacked: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return nil, api.Errorf(api.CodeInvalid, "the source is no tar compressed with gzip or zstd")
}
