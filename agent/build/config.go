package build

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"slipway/api"
	"slipway/api/machine"
)

// Defaults of Config.
const (
	MemoryDefault   = 4 * api.GiB
	CacheMaxDefault = 20 * api.GiB
	IdleDefault     = 5 * time.Minute
	TimeDefault     = time.Hour
	TasksDefault    = 8192
)

// Config is what a Builder needs.
type Config struct {
	// Root is the directory of the cache and of sources in progress. Only one process may use
	// it, and its path must leave room for a socket: at most 80 bytes.
	Root string
	// Registry is the rack's own.
	Registry Registry
	// Command starts a program that calls ChildMain: path and arguments. Empty means this
	// program with the argument "builder".
	Command []string
	// Cgroup is the parent of all build steps, for example "slipway-build". It belongs to this
	// Builder alone.
	Cgroup string
	// Memory bounds all steps of all builds together.
	Memory api.Bytes
	// Tasks bounds the processes and threads of all steps of all builds together.
	Tasks int
	// Time bounds one build.
	Time time.Duration
	// CacheMax bounds the disk that the cache may take.
	CacheMax api.Bytes
	// Idle is how long the engine lives without a build.
	Idle time.Duration
	// Deny lists networks that build steps and upstream registries may not be in, beside those
	// that are always refused: the machine's own addresses, loopback and link-local ones.
	Deny []netip.Prefix
	// Source limits what an uploaded archive may unpack to.
	Source Limits
	Logger *slog.Logger `json:"-"`
}

func (c *Config) setDefaults() error {
	if c.Root == "" || c.Registry.Addr == "" && c.Registry.Machine == "" || c.Cgroup == "" {
		return api.Errorf(api.CodeInvalid, "builder: the root directory, the registry address and the cgroup must be configured")
	}
	root, err := filepath.Abs(c.Root)
	if err != nil {
		return fmt.Errorf("builder: %w", err)
	}
	if c.Root = root; len(root) > 80 {
		return api.Errorf(api.CodeInvalid, "builder: the path of the root directory %q is longer than 80 bytes", root)
	}
	if len(c.Command) == 0 {
		c.Command = []string{"/proc/self/exe", "builder"}
	}
	if c.Memory == 0 {
		c.Memory = MemoryDefault
	}
	if c.Tasks == 0 {
		c.Tasks = TasksDefault
	}
	if c.Time == 0 {
		c.Time = TimeDefault
	}
	if c.CacheMax == 0 {
		c.CacheMax = CacheMaxDefault
	}
	if c.Idle == 0 {
		c.Idle = IdleDefault
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Source.setDefaults()
	return nil
}

// Registry says how to reach the rack's registry, which image names call api.RackHost.
type Registry struct {
	// Machine is the directory of the node's identity (api/machine): the registry is that of any
	// server of its rack, and its certificate opens it. The other fields are for a registry
	// without one.
	Machine string `json:"machine,omitempty"`
	// Addr is its present address, host:port. It speaks HTTPS.
	Addr string `json:"addr"`
	// ServerName is what its certificate is checked for; empty means the host of Addr.
	ServerName string `json:"server_name,omitempty"`
	// CA holds the certificates that sign it, in PEM; empty means the machine's authorities.
	CA []byte `json:"ca,omitempty"`
	// User and Password may pull everything and push to the app's repository.
	User     string `json:"user"`
	Password string `json:"password"`
}

// client returns a client that sends every request for api.RackHost to the registry, with the
// credentials; nil dial means the usual one. Requests for other hosts (a redirect to a bucket,
// for instance) go where they say, and without credentials.
func (r Registry) client(dial dialFunc) (*http.Client, error) {
	if r.Machine != "" {
		return &http.Client{Transport: &http.Transport{
			DialContext: dial, DialTLSContext: machine.RegistryDialer(r.Machine, machine.DialFunc(dial)),
			MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
		}}, nil
	}
	config := &tls.Config{ServerName: r.ServerName, MinVersion: tls.VersionTLS12}
	if len(r.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(r.CA) {
			return nil, api.Errorf(api.CodeInvalid, "builder: the registry's CA holds no certificate in PEM")
		}
	}
	t := &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     config,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     30 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
	}
	return &http.Client{Transport: registryTransport{r, t}}, nil
}

type registryTransport struct {
	registry Registry
	next     *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t registryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == api.RackHost {
		req = req.Clone(req.Context())
		req.URL.Host = t.registry.Addr
		req.Host = ""
		req.SetBasicAuth(t.registry.User, t.registry.Password)
	}
	resp, err := t.next.RoundTrip(req)
	if err == nil && req.URL.Host == t.registry.Addr {
		// Relative redirects and upload locations are resolved against this request.
		resp.Request = resp.Request.Clone(req.Context())
		resp.Request.URL.Host = api.RackHost
	}
	return resp, err
}

// CloseIdleConnections lets http.Client close them.
func (t registryTransport) CloseIdleConnections() { t.next.CloseIdleConnections() }

// The layout of Config.Root.

func (c *Config) engineDir() string { return filepath.Join(c.Root, "engine") }
func (c *Config) sourceDir() string { return filepath.Join(c.Root, "source") }
func (c *Config) socket() string    { return filepath.Join(c.Root, "builder.sock") }

func (c *Config) makeDirs() error {
	// Sources of builds that a crash cut off are of no use to anyone.
	if err := os.RemoveAll(c.sourceDir()); err != nil {
		return fmt.Errorf("builder: remove old sources: %w", err)
	}
	for _, d := range []string{c.engineDir(), c.sourceDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("builder: %w", err)
		}
	}
	return nil
}
