package machine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"testing"
	"testing/synctest"
	"time"
)

// TestKnownForgets: what was verified once is let in until it, or who signed it, expires, and where it
// was never verified not at all.
func TestKnownForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sign := func(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
			der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		// shown is a machine's certificate of an authority of its own, and who trusts that.
		shown := func(life, authority time.Duration) (tls.ConnectionState, *x509.CertPool) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			ca := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(authority), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
			ca.Subject.CommonName = rand.Text()
			ca = sign(ca, ca, key)
			leaf := sign(&x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now(), NotAfter: time.Now().Add(life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, key)
			pool := x509.NewCertPool()
			pool.AddCert(ca)
			return tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, pool
		}
		var k known
		good, roots := shown(time.Hour, 9*time.Hour)
		orphan, old := shown(9*time.Hour, 2*time.Hour)
		foreign, _ := shown(time.Hour, 9*time.Hour)
		is := func(when string, s tls.ConnectionState, roots *x509.CertPool, want bool) {
			t.Helper()
			for range 2 {
				if err := k.check(s, roots); (err == nil) != want {
					t.Errorf("%s: %v", when, err)
				}
			}
		}
		is("at first", good, roots, true)
		is("of an authority that expires first", orphan, old, true)
		is("of another rack", foreign, roots, false)
		is("without a certificate", tls.ConnectionState{}, roots, false)
		time.Sleep(time.Hour + time.Second) // virtual
		is("expired", good, roots, false)
		is("before its authority expires", orphan, old, true)
		time.Sleep(time.Hour) // virtual
		is("after its authority has expired", orphan, old, false)
	})
}
