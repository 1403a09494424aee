package build

import (
	"context"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"

	"slipway/api"
)

// dialFunc is the type of net.Dialer's DialContext.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// registryHosts says where images are looked for: those of the rack at its registry alone, all
// others there first, under the same repository, and then where their name leads.
func registryHosts(rack, upstream *http.Client) docker.RegistryHosts {
	own := docker.RegistryHost{
		Client:       rack,
		Host:         api.RackHost,
		Scheme:       "https",
		Path:         "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush,
	}
	mirror := own
	mirror.Client = &http.Client{Transport: mirrorTransport{rack.Transport}}
	mirror.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve

	return func(host string) ([]docker.RegistryHost, error) {
		if host == api.RackHost {
			return []docker.RegistryHost{own}, nil
		}
		name, err := docker.DefaultHost(host)
		if err != nil {
			return nil, err
		}
		origin := docker.RegistryHost{
			Client:       upstream,
			Host:         name,
			Scheme:       "https",
			Path:         "/v2",
			Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
		}
		return []docker.RegistryHost{mirror, origin}, nil
	}
}

// mirrorTransport keeps the repositories of apps, which are the only ones without a slash, from
// being read under the name of a foreign registry.
type mirrorTransport struct{ next http.RoundTripper }

var repositoryPath = regexp.MustCompile(`^/v2/(.+)/(?:manifests|blobs|referrers|tags)/`)

// RoundTrip implements http.RoundTripper.
func (t mirrorTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if m := repositoryPath.FindStringSubmatch(req.URL.Path); m != nil && !strings.Contains(m[1], "/") {
		return &http.Response{
			Status: "404 Not Found", StatusCode: http.StatusNotFound,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Body: http.NoBody, Request: req,
		}, nil
	}
	return t.next.RoundTrip(req)
}
