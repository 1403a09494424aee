package api

import "time"

// AuthorityStage is where a certificate authority of the rack is in its life.
type AuthorityStage string

// The stages of an authority, in their order.
const (
	// AuthorityAdded is trusted, and does not sign yet.
	AuthorityAdded AuthorityStage = "added"
	// AuthoritySigning signs the certificates of machines. One does, at any time.
	AuthoritySigning AuthorityStage = "signing"
	// AuthorityLeaving has signed, and is trusted until no machine needs it.
	AuthorityLeaving AuthorityStage = "leaving"
)

// Authority is a certificate authority of the rack, without its key.
type Authority struct {
	Fingerprint string         `json:"fingerprint"` // SHA-256 of the certificate, hex
	Stage       AuthorityStage `json:"stage"`
	Created     time.Time      `json:"created"`
	Since       time.Time      `json:"since,omitzero"` // when it began to sign
	Until       time.Time      `json:"until"`          // when its certificate ends
	Certificate string         `json:"certificate"`    // PEM
	// Behind are the machines that the next stage of its replacement waits for, and those that it
	// goes on without.
	Behind []Laggard `json:"behind,omitempty"`
}

// Laggard is a machine that has not followed the replacement of an authority yet.
type Laggard struct {
	Machine string `json:"machine"` // "node/<id>" or "server/<id>"
	Name    string `json:"name"`
	Why     string `json:"why"`
	// Waited: the replacement does not go on without it.
	Waited bool `json:"waited"`
}

// String is "node/n3 (web-3): it is down".
func (l Laggard) String() string { return l.Machine + " (" + l.Name + "): " + l.Why }
