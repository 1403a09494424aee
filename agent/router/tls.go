package router

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"slipway/api"
	"slipway/durable"
)

// defaultCertificate is the name of the certificate for hosts that no other one covers.
const defaultCertificate = "default"

// certificates finds the certificate of a host. Files are read when they change, never when a
// client connects.
type certificates struct {
	dir string
	ask func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	set atomic.Pointer[certificateSet]

	mu sync.Mutex

	files map[string]certificateFile
}

// certificateSet is what handshakes see: immutable.
type certificateSet struct {
	byName   map[string]*tls.Certificate // "example.com", "*.example.com"
	fallback *tls.Certificate
}

// certificateFile is a file as it was read last.
type certificateFile struct {
	modified time.Time
	size     int64
	cert     *tls.Certificate // the last good one; nil if there never was one
}

func newCertificates(cfg Config) *certificates {
	c := &certificates{dir: cfg.CertificateDir, ask: cfg.GetCertificate, files: make(map[string]certificateFile)}
	c.set.Store(&certificateSet{})
	return c
}

// config returns the TLS side of the router.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: c.get,
	}
}

func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	set := c.set.Load()
	name, ok := normalHost(hello.ServerName)
	if ok {
		if cert := set.byName[name]; cert != nil {
			return cert, nil
		}
		if i := strings.IndexByte(name, '.'); i > 0 {
			if cert := set.byName["*"+name[i:]]; cert != nil {
				return cert, nil
			}
		}
	}
	if c.ask != nil {
		if cert, err := c.ask(hello); err == nil && cert != nil {
			return cert, nil
		}
	}
	if set.fallback == nil {
		return nil, api.Errorf(api.CodeNotFound, "no certificate for %q", hello.ServerName)
	}
	return set.fallback, nil
}

// reload looks at the directory and reads what changed. A file that cannot be read leaves the
// certificate that it held before in force.
func (c *certificates) reload(logger *slog.Logger) {
	if c.dir == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Warn("certificate directory could not be read", "dir", c.dir, "err", err)
		return
	}
	changed := false
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".pem")
		info, err := e.Info()
		if !ok || name == "" || err != nil || !info.Mode().IsRegular() {
			continue
		}
		seen[name] = true
		old, known := c.files[name]
		if known && old.modified.Equal(info.ModTime()) && old.size == info.Size() {
			continue
		}
		file := certificateFile{modified: info.ModTime(), size: info.Size(), cert: old.cert}
		cert, err := readCertificate(filepath.Join(c.dir, e.Name()))
		if err != nil {
			logger.Warn("certificate could not be read", "file", e.Name(), "err", err)
		} else {
			file.cert = cert
		}
		c.files[name] = file
		changed = true
	}
	for name := range c.files {
		if !seen[name] {
			delete(c.files, name)
			changed = true
		}
	}
	if changed {
		c.set.Store(c.build())
	}
}

// build indexes the files by the names in their certificates. Where two cover a name, the one
// that is valid for longer wins.
func (c *certificates) build() *certificateSet {
	set := &certificateSet{byName: make(map[string]*tls.Certificate)}
	for name, f := range c.files {
		if f.cert == nil {
			continue
		}
		if name == defaultCertificate {
			set.fallback = f.cert
		}
		for _, dns := range f.cert.Leaf.DNSNames {
			dns = strings.ToLower(dns)
			if old := set.byName[dns]; old == nil || old.Leaf.NotAfter.Before(f.cert.Leaf.NotAfter) {
				set.byName[dns] = f.cert
			}
		}
	}
	return set
}

func readCertificate(path string) (*tls.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseCertificate(b)
}

func parseCertificate(b []byte) (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair(b, b)
	if err != nil {
		return nil, err
	}
	return &cert, nil // X509KeyPair fills Leaf in
}

// storeCertificate puts a certificate into the directory and in force.
func (r *Router) storeCertificate(name string, b []byte) error {
	path, err := r.certificatePath(name)
	if err != nil {
		return err
	}
	if _, err := parseCertificate(b); err != nil {
		return api.Errorf(api.CodeInvalid, "certificate %q: %w", name, err)
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	if err := os.MkdirAll(r.cfg.CertificateDir, 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(path, b); err != nil {
		return err
	}
	r.certs.reload(r.logger)
	return nil
}

// removeCertificate takes a certificate out of the directory and out of force.
func (r *Router) removeCertificate(name string) error {
	path, err := r.certificatePath(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.certs.reload(r.logger)
	return nil
}

// certificatePath maps a name to its file. A wildcard's star is an underscore there.
func (r *Router) certificatePath(name string) (string, error) {
	if r.cfg.CertificateDir == "" {
		return "", api.Errorf(api.CodeInvalid, "the router keeps no certificates; set CertificateDir")
	}
	file := name
	if below, wild := strings.CutPrefix(name, "*."); wild {
		file = "_." + below
	}
	if n, ok := normalHost(file); !ok || n != file {
		return "", api.Errorf(api.CodeInvalid, "certificate name %q is not a host name", name)
	}
	return filepath.Join(r.cfg.CertificateDir, file+".pem"), nil
}
