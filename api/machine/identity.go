package machine

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"slipway/api"
	"slipway/durable"
)

// The files of an identity.
const (
	// IdentityFile holds the key and the chain, TrustFile the authorities that are trusted.
	IdentityFile = "machine.pem"
	TrustFile    = "trust.pem"
)

// Identity is a machine's key and certificate and the authorities that it trusts. They are kept in
// a directory. It is safe for concurrent use.
type Identity struct {
	dir string

	mu   sync.RWMutex
	now  *held
	keep sync.Mutex // one Replace at a time
}

// held is what an identity consists of at one time.
type held struct {
	name   Name
	cert   *tls.Certificate
	trust  []byte
	pool   *x509.CertPool
	server *tls.Config
	// issuer is the fingerprint of the trusted authority that signed cert, trusts are those of all
	// that are trusted, sorted.
	issuer string
	trusts []string
	known  known // certificates that pool vouches for
}

// Open reads the identity that Keep left in a directory. Without one the error is of code
// not_found.
func Open(dir string) (*Identity, error) {
	i := &Identity{dir: dir}
	return i, i.Reload()
}

// Reload reads the files again, for a process that shares them with the one that renews.
func (i *Identity) Reload() error {
	pair, err := os.ReadFile(filepath.Join(i.dir, IdentityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.CodeNotFound, "no certificate of a machine in %s: %w", i.dir, err)
	}
	if err != nil {
		return fmt.Errorf("read the machine's certificate: %w", err)
	}
	trust, err := os.ReadFile(filepath.Join(i.dir, TrustFile))
	if err != nil {
		return fmt.Errorf("read the rack's authorities: %w", err)
	}
	h, err := parse(pair, trust)
	if err != nil {
		return fmt.Errorf("read the machine's certificate in %s: %w", i.dir, err)
	}
	i.mu.Lock()
	i.now = h
	i.mu.Unlock()
	return nil
}

// Keep stores a new identity in a directory and opens it.
func Keep(dir string, key crypto.Signer, chain, trust []byte) (*Identity, error) {
	i := &Identity{dir: dir}
	return i, i.Replace(key, chain, trust)
}

// Replace stores a renewed certificate and uses it for all connections from now on.
func (i *Identity) Replace(key crypto.Signer, chain, trust []byte) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("keep the machine's key: %w", err)
	}
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), chain...)
	h, err := parse(pair, trust)
	if err != nil {
		return err
	}
	i.keep.Lock()
	defer i.keep.Unlock()
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return fmt.Errorf("keep the machine's certificate: %w", err)
	}
	// The authorities first: a certificate of one that is not trusted would be of no use.
	for _, f := range []struct {
		name string
		doc  []byte
	}{{TrustFile, trust}, {IdentityFile, pair}} {
		if err := durable.WriteFile(filepath.Join(i.dir, f.name), f.doc); err != nil {
			return fmt.Errorf("keep the machine's certificate: %w", err)
		}
	}
	i.mu.Lock()
	i.now = h
	i.mu.Unlock()
	return nil
}

func parse(pair, trust []byte) (*held, error) {
	cert, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		return nil, fmt.Errorf("key and certificate: %w", err)
	}
	h := &held{cert: &cert, trust: bytes.Clone(trust), pool: x509.NewCertPool()}
	var named bool
	if h.name, named = NameOf(cert.Leaf); !named {
		return nil, api.Errorf(api.CodeInvalid, "the certificate of %s names no machine", cert.Leaf.Subject)
	}
	authorities, err := parseAuthorities(trust)
	if err != nil {
		return nil, err
	}
	for _, a := range authorities {
		h.pool.AddCert(a)
		h.trusts = append(h.trusts, Fingerprint(a))
		if cert.Leaf.CheckSignatureFrom(a) == nil {
			h.issuer = Fingerprint(a)
		}
	}
	slices.Sort(h.trusts)
	h.server = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: h.pool,
		SessionTicketsDisabled: true, // a session that is taken up again would not be judged anew
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			return h.name.admits(s.PeerCertificates[0], "")
		},
	}
	return h, nil
}

// admits reports why a certificate is not one of a machine of the same rack, with a role unless
// that is "".
func (n Name) admits(cert *x509.Certificate, role string) error {
	other, named := NameOf(cert)
	switch {
	case !named:
		return api.Errorf(api.CodeDenied, "the certificate of %s names no machine of a rack", cert.Subject)
	case other.Cluster != n.Cluster:
		return api.Errorf(api.CodeDenied, "%s answers, this machine belongs to rack %s", other, n.Cluster)
	case role != "" && other.Role != role:
		return api.Errorf(api.CodeDenied, "%s answers where a %s is wanted", other, role)
	}
	return nil
}

func (i *Identity) held() *held {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.now
}

// Name returns who the machine is.
func (i *Identity) Name() Name { return i.held().name }

// Trust returns the authorities that are trusted, in PEM.
func (i *Identity) Trust() []byte { return bytes.Clone(i.held().trust) }

// Chain returns the certificate and its issuer, in PEM.
func (i *Identity) Chain() []byte {
	var out []byte
	for _, der := range i.held().cert.Certificate {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// Life returns from when and until when the certificate is good.
func (i *Identity) Life() (from, until time.Time) {
	leaf := i.held().cert.Leaf
	return leaf.NotBefore, leaf.NotAfter
}

// Holds returns the fingerprint of the authority that signed the certificate, "" when it is not
// trusted, and those of all that are trusted, sorted.
func (i *Identity) Holds() (issuer string, trusts []string) {
	h := i.held()
	return h.issuer, h.trusts
}

// Check reports why the other end of a connection would not be let in any more: its certificate has
// expired, or the authority that signed it is not trusted now.
func (i *Identity) Check(s tls.ConnectionState) error {
	h := i.held()
	return h.known.check(s, h.pool)
}

// Server returns the configuration of a listener. Callers without a certificate are let in, for
// people have tokens instead; Peer tells. A certificate that is shown must be one of the rack.
func (i *Identity) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return i.held().server, nil },
		GetCertificate:     func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.held().cert, nil },
	}
}

// Client returns the configuration of connections to machines of the same rack with a role.
func (i *Identity) Client(role string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.held().cert, nil },
		InsecureSkipVerify:   true, // VerifyConnection does it: who, not where
		VerifyConnection: func(s tls.ConnectionState) error {
			h := i.held()
			if err := verify(s, h.pool); err != nil {
				return fmt.Errorf("%w; if the rack's authority was replaced while this machine was away, %s", err, i.anew())
			}
			if err := h.name.admits(s.PeerCertificates[0], role); err != nil {
				return err
			}
			if role == RoleServer && h.replaced(s) {
				return api.Errorf(api.CodeDenied, "the rack has replaced the authority that signed the certificate of %s; %s", h.name, i.anew())
			}
			return nil
		},
	}
}

// anew tells how a machine gets a certificate that is good again.
func (i *Identity) anew() string {
	if i.Name().Role == RoleServer {
		return "remove this server from the rack, empty its data directory and let it join anew: slipway rack servers remove " + i.Name().ID
	}
	return "empty " + i.dir + " and let it join anew, with a new token: slipway rack join-token agent"
}

// replaced reports whether a server at the other end does not trust whoever signed this certificate.
// It would say so itself, in the words of TLS.
func (h *held) replaced(s tls.ConnectionState) bool {
	listed := listedBy(s)
	return len(listed) > 0 && !slices.ContainsFunc(listed, func(c *x509.Certificate) bool { return Fingerprint(c) == h.issuer })
}

// verify checks the chain of the other end, as a server's.
func verify(s tls.ConnectionState, roots *x509.CertPool) error {
	_, err := chains(s, roots)
	return err
}

// chains returns the chains that vouch for the other end.
func chains(s tls.ConnectionState, roots *x509.CertPool) ([][]*x509.Certificate, error) {
	if len(s.PeerCertificates) == 0 {
		return nil, api.Errorf(api.CodeDenied, "the other end shows no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	found, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, api.Errorf(api.CodeDenied, "the other end is not of this rack: %w", err)
	}
	return found, nil
}

// verifyServer checks that the other end is a server of the rack that roots belong to.
func verifyServer(s tls.ConnectionState, roots *x509.CertPool) error {
	if err := verify(s, roots); err != nil {
		return err
	}
	if name, ok := NameOf(s.PeerCertificates[0]); !ok || name.Role != RoleServer {
		return api.Errorf(api.CodeDenied, "the other end is not a server of the rack")
	}
	return nil
}

// NewRequest makes a key and asks for a certificate for it (PKCS #10, DER).
func NewRequest() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the machine's key: %w", err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	return key, request, nil
}
