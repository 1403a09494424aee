package machine

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"time"
)

// known are certificates that the same authorities were found to vouch for, and until when. Machines
// are checked with every call, by signatures that cost a hundred times what the rest of a small call
// does. Its zero value is ready.
type known struct {
	mu    sync.Mutex
	until map[[sha256.Size]byte]time.Time // by the certificate
}

// knownMax bounds what is kept; it is begun anew then.
const knownMax = 1 << 15

// check verifies the other end, unless that was done.
func (k *known) check(s tls.ConnectionState, roots *x509.CertPool) error {
	if len(s.PeerCertificates) == 0 {
		return verify(s, roots)
	}
	leaf, now := sha256.Sum256(s.PeerCertificates[0].Raw), time.Now()
	k.mu.Lock()
	until, found := k.until[leaf]
	k.mu.Unlock()
	if found && now.Before(until) {
		return nil
	}
	chains, err := chains(s, roots)
	if err != nil {
		return err
	}
	until = time.Time{}
	for _, chain := range chains {
		if end := shortest(chain); end.After(until) {
			until = end
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.until == nil || len(k.until) >= knownMax {
		k.until = map[[sha256.Size]byte]time.Time{}
	}
	k.until[leaf] = until
	return nil
}

// shortest is when the first certificate of a chain expires.
func shortest(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}
