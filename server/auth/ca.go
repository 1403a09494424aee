package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"slipway/api"
	"slipway/api/machine"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 365 * 24 * time.Hour
	// clockSkew is how far behind the clock of a machine may be that checks a new certificate.
	clockSkew = time.Hour
)

// CA is one certificate authority of a rack.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// NewCA makes an authority for a rack.
func NewCA(rack string, now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create the rack's CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "slipway rack " + rack},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1, // for what Vouch signs
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("create the rack's CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("create the rack's CA: %w", err)
	}
	return &CA{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// ParseCA reads an authority: what PEM and KeyPEM returned.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read the rack's CA: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, api.Errorf(api.CodeInvalid, "read the rack's CA: not the certificate and key of a CA")
	}
	return &CA{cert: pair.Leaf, key: key, pem: bytes.Clone(certPEM)}, nil
}

// KeyPEM returns the private key.
func (c *CA) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, fmt.Errorf("encode the rack's CA: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PEM returns the certificate that clients trust.
func (c *CA) PEM() []byte { return bytes.Clone(c.pem) }

// Pool returns a pool with the CA in it and nothing else.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// Fingerprint returns the SHA-256 of the certificate in hex, to compare by eye.
func (c *CA) Fingerprint() string { return machine.Fingerprint(c.cert) }

// Vouch signs a certificate of another authority, in PEM: who trusts c takes by it what the other
// signs, until c ends.
func (c *CA) Vouch(next *CA) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: next.cert.Subject, SubjectKeyId: next.cert.SubjectKeyId,
		NotBefore: next.cert.NotBefore, NotAfter: next.cert.NotAfter,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if c.cert.NotAfter.Before(template.NotAfter) {
		template.NotAfter = c.cert.NotAfter
	}
	der, err := c.sign(template, next.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// Issue signs a certificate with a key of its own for hosts, which are IP addresses, host names or
// wildcards like "*.app.example.com", valid for a year. It serves the named hosts and proves
// nothing else: no machine is named by it.
func (c *CA) Issue(now time.Time, hosts ...string) (tls.Certificate, error) {
	if len(hosts) == 0 {
		return tls.Certificate{}, api.Errorf(api.CodeInvalid, "issue a certificate: no host is given")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue a certificate for %s: %w", hosts[0], err)
	}
	der, err := c.sign(certificate(now, leafLife, clockSkew, hosts, x509.ExtKeyUsageServerAuth), key.Public())
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue a certificate for %s: %w", hosts[0], err)
	}
	return tls.Certificate{Certificate: [][]byte{der, c.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Machine signs the certificate of a machine for the key of a certificate request (PKCS #10, DER),
// of which nothing else is used. It serves both sides of a connection. The answer is the chain in
// PEM.
func (c *CA) Machine(now time.Time, life time.Duration, name machine.Name, hosts []string, request []byte) ([]byte, error) {
	r, err := x509.ParseCertificateRequest(request)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "certificate for %s: the request is not valid: %w", name, err)
	}
	template := certificate(now, life, min(clockSkew, life/2), append([]string{name.Role + "-" + name.ID}, hosts...), x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	template.URIs = []*url.URL{name.URI()}
	der, err := c.sign(template, r.PublicKey)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), c.pem...), nil
}

// certificate is the template of what is not a CA.
func certificate(now time.Time, life, skew time.Duration, hosts []string, usage ...x509.ExtKeyUsage) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: commonName(hosts[0])},
		NotBefore: now.Add(-skew), NotAfter: now.Add(life), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
			continue
		}
		t.DNSNames = append(t.DNSNames, host)
	}
	return t
}

func (c *CA) sign(template *x509.Certificate, key crypto.PublicKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key, c.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", template.Subject.CommonName, err)
	}
	return der, nil
}

// commonNameMax is the limit of X.520.
const commonNameMax = 64

func commonName(host string) string {
	if len(host) > commonNameMax {
		return host[:commonNameMax]
	}
	return host
}

// serial draws the number of a certificate: 127 bits, never zero in practice.
func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, by its contract
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}
