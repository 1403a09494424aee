package images

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Target is a registry that images are pushed to.
type Target struct {
	Addr string // host:port
	// CA signs the registry's certificate; nil means the machine's authorities.
	CA *x509.CertPool
	// ServerName is the name that the certificate is checked for; empty means the host of Addr.
	ServerName string
	User       string
	Password   string
}

// Push stores img under ref, for example "library/busybox:latest", and returns the digest of
// its manifest. What the registry already has is not sent.
func Push(ctx context.Context, target Target, ref string, img v1.Image) (string, error) {
	tag, err := name.NewTag(target.Addr + "/" + ref)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: target.CA, ServerName: target.ServerName},
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	err = remote.Write(tag, img, remote.WithContext(ctx), remote.WithTransport(transport),
		remote.WithAuth(&authn.Basic{Username: target.User, Password: target.Password}))
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	return digest.String(), nil
}
