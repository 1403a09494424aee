package router

import (
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"slipway/api"
)

// Config says where a router listens and what it keeps.
type Config struct {
	// HTTPAddr and HTTPSAddr are the addresses to listen on, "host:port". An empty one is not
	// listened on; at least one must be given.
	HTTPAddr  string
	HTTPSAddr string
	// HTTPSPort is the port that redirects name; 0 takes it from HTTPSAddr.
	HTTPSPort int
	// ControlSocket is the path of the unix socket that the agent speaks to. It is created with
	// mode 0600.
	ControlSocket string
	// Takeover asks a router that already serves ControlSocket for its listeners, so that no
	// connection is refused while one process replaces the other. Without it, a socket that is
	// served already is an error.
	Takeover bool
	// StateFile is where the last table is kept; empty keeps none.
	StateFile string
	// CertificateDir holds a file "<name>.pem" per certificate, chain and key in one. The names
	// of a certificate decide what it serves, not the name of the file; "default.pem" serves
	// whatever no other one does. Changes are seen within CertificateInterval.
	CertificateDir string
	// GetCertificate is asked for names that no file in CertificateDir covers, before
	// "default.pem" is used. Nil asks nobody.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// StickyKey keys the session cookie. Routers that share it honour each other's cookies.
	StickyKey []byte
	// ShutdownLimit bounds the wait for requests in flight once Run was told to stop; 0 means
	// ShutdownDefault.
	ShutdownLimit time.Duration
	// Registry receives the metrics and serves them on the control socket. Nil makes one.
	Registry *prometheus.Registry
	Logger   *slog.Logger

	bounds bounds
}

// bounds are what a client may cost; tests make them smaller.
type bounds struct {
	headerRead time.Duration // from the first byte of a head to its last
	clientIdle time.Duration // between two requests of a connection
	stall      time.Duration // without progress while the router writes
	clients    int           // connections at a time; more wait in the kernel's queue
}

// Times that no one needs to set.
const (
	// ShutdownDefault is how long a router that was told to stop waits for its requests.
	ShutdownDefault = 30 * time.Second
	// TimeoutDefault stands for a route without a timeout, DrainDefault for one without a
	// drain limit.
	TimeoutDefault = 60 * time.Second
	DrainDefault   = 30 * time.Second
	// CertificateInterval is how often the certificate directory is looked at.
	CertificateInterval = 2 * time.Second
)

// The bounds of what a client may cost. They follow what net/http and HTTP/2 implementations
// were attacked with: slow heads, endless heads, stalled readers, floods of streams.
const (
	headerReadMax   = 10 * time.Second
	clientIdleMax   = 75 * time.Second
	clientStallMax  = 60 * time.Second
	clientsMax      = 32 << 10
	headerBytesMax  = 64 << 10
	streamsMax      = 250      // of one HTTP/2 connection
	replayBodyMax   = 64 << 10 // a body up to this size is kept so that it can be sent again
	responseHeadMax = 64 << 10
	sendsMax        = 3 // times a request is written; refused connections do not count
)

// The bounds of what the router keeps open towards a target.
const (
	connectMax      = 2 * time.Second
	upstreamIdleMax = 30 * time.Second      // below the 60 s that many load balancers keep
	upstreamIdleTop = 256                   // idle connections per target
	aliveCheckAfter = 20 * time.Millisecond // idle for longer: looked at before use
	suspectFor      = time.Second           // after a refused connection: last choice
	sweepInterval   = 5 * time.Second
	tunnelCloseMax  = 250 * time.Millisecond // for writing a close frame
	uploadSettle    = 2 * time.Millisecond
	uploadMargin    = time.Second // between the limit of a client and that of a process that waits for it
)

func (c *Config) complete() error {
	if c.HTTPAddr == "" && c.HTTPSAddr == "" {
		return api.Errorf(api.CodeInvalid, "router: no address to listen on; set HTTPAddr or HTTPSAddr")
	}
	if c.ControlSocket == "" {
		return api.Errorf(api.CodeInvalid, "router: no control socket; set ControlSocket")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.ShutdownLimit == 0 {
		c.ShutdownLimit = ShutdownDefault
	}
	if c.bounds == (bounds{}) {
		c.bounds = bounds{headerReadMax, clientIdleMax, clientStallMax, clientsMax}
	}
	return nil
}
