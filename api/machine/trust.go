package machine

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"sync"

	"slipway/api"
)

// Trust is whom a client without a certificate takes for a server of its rack. It follows the rack:
// a server that is trusted lists the authorities of the rack in its handshake, and they take the
// place of those of before. It is safe for concurrent use.
type Trust struct {
	mu   sync.Mutex
	pem  []byte
	pool *x509.CertPool
}

// NewTrust trusts the servers of whoever signs with one of the authorities, in PEM.
func NewTrust(authorities []byte) (*Trust, error) {
	certs, err := parseAuthorities(authorities)
	if err != nil {
		return nil, err
	}
	t := &Trust{pem: bytes.Clone(authorities), pool: x509.NewCertPool()}
	for _, c := range certs {
		t.pool.AddCert(c)
	}
	return t, nil
}

// PEM returns the authorities that are trusted now.
func (t *Trust) PEM() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.pem)
}

// Client returns the configuration of connections to servers.
func (t *Trust) Client() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13, // the list of a server is signed with its handshake
		InsecureSkipVerify: true,             // VerifyConnection does it: who, not where
		VerifyConnection: func(s tls.ConnectionState) error {
			t.mu.Lock()
			defer t.mu.Unlock()
			if err := verifyServer(s, t.pool); err != nil {
				return err
			}
			t.followLocked(listedBy(s))
			return nil
		},
	}
}

// followLocked takes over what a server lists, if it is something else.
func (t *Trust) followLocked(listed []*x509.Certificate) {
	pool, text := x509.NewCertPool(), []byte(nil)
	for _, c := range listed {
		pool.AddCert(c)
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if len(listed) > 0 && !pool.Equal(t.pool) {
		t.pool, t.pem = pool, text
	}
}

// listedBy returns the authorities that a server of the rack says are trusted: those in its chain
// that vouch for themselves.
func listedBy(s tls.ConnectionState) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range s.PeerCertificates {
		if c.IsCA && bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	return out
}

// parseAuthorities reads certificates in PEM.
func parseAuthorities(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the rack's authorities: %w", err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "the authorities of the rack are not certificates in PEM")
	}
	return out, nil
}
