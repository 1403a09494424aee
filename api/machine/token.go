package machine

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"strings"

	"slipway/api"
)

// tokenPrefix makes join tokens easy to find where they have leaked.
const tokenPrefix = "slipj_"

// Fingerprint returns the SHA-256 of a certificate in hex.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// JoinToken joins a secret and the fingerprint of the rack's authority:
// slipj_<secret>_<fingerprint>. Whoever holds it knows the rack from an impostor before it says a
// word of the secret.
func JoinToken(secret, fingerprint string) string {
	return tokenPrefix + strings.TrimPrefix(secret, "slip_") + "_" + fingerprint
}

// ParseJoinToken takes a join token apart.
func ParseJoinToken(token string) (secret, fingerprint string, err error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(token), tokenPrefix)
	secret, fingerprint, cut := strings.Cut(rest, "_")
	if b, bad := hex.DecodeString(fingerprint); !ok || !cut || secret == "" || bad != nil || len(b) != sha256.Size {
		return "", "", api.Errorf(api.CodeInvalid, "this is no join token; an admin gets one with: slipway rack join-token agent")
	}
	return "slip_" + secret, fingerprint, nil
}

// pinned returns the configuration of a client that knows nothing of the rack but the fingerprint
// of its authority.
func pinned(fingerprint string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		InsecureSkipVerify: true, // VerifyConnection does it: who, not where
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, c := range s.PeerCertificates {
				if c.IsCA && Fingerprint(c) == fingerprint {
					roots := x509.NewCertPool()
					roots.AddCert(c)
					return verifyServer(s, roots)
				}
			}
			return api.Errorf(api.CodeDenied, "the other end does not show the authority that the token pins; the token may be of another rack, or older than the rack's authority: get a new one with: slipway rack join-token agent")
		},
	}
}
