package machine

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
)

// The roles of machines.
const (
	RoleServer = "server"
	RoleAgent  = "agent"
)

// scheme of the URI that names a machine.
const scheme = "slipway"

// Name is who a machine is.
type Name struct {
	Cluster string // ID of its rack
	Role    string // RoleServer or RoleAgent
	ID      string // unique in its role: the ID of a server or of a node
}

// URI returns the name as it stands in a certificate.
func (n Name) URI() *url.URL {
	return &url.URL{Scheme: scheme, Host: n.Cluster, Path: "/" + n.Role + "/" + n.ID}
}

// String returns "server s1 of rack c1".
func (n Name) String() string { return n.Role + " " + n.ID + " of rack " + n.Cluster }

// NameOf returns whom a certificate names; false for one that names no machine.
func NameOf(cert *x509.Certificate) (Name, bool) {
	for _, u := range cert.URIs {
		role, id, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		if u.Scheme == scheme && ok && id != "" && u.Host != "" && (role == RoleServer || role == RoleAgent) {
			return Name{Cluster: u.Host, Role: role, ID: id}, true
		}
	}
	return Name{}, false
}

// Peer returns who is at the other end of a connection that Identity.Server accepted; false for
// somebody without a certificate.
func Peer(s tls.ConnectionState) (Name, bool) {
	if len(s.VerifiedChains) == 0 {
		return Name{}, false
	}
	return NameOf(s.VerifiedChains[0][0])
}
