package server

import (
	"bytes"
	"sync"
	"time"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
	"slipway/raftstore/keyring"
	"slipway/raftstore/state"
	"slipway/server/auth"
)

// authority signs certificates with the rack's present authority, which lives in the replicated
// state, sealed. Every server can.
type authority struct {
	view    func() *state.View
	keyring *keyring.Keyring
	life    time.Duration

	mu     sync.Mutex
	opened *auth.CA // by its fingerprint
}

// sealedAs binds a sealed key to its certificate.
func sealedAs(fingerprint string) []byte { return []byte("authority/" + fingerprint) }

// seal makes the record of an authority.
func (a *authority) seal(ca *auth.CA, now time.Time) (state.Authority, error) {
	key, err := ca.KeyPEM()
	if err != nil {
		return state.Authority{}, err
	}
	return state.Authority{
		Fingerprint: ca.Fingerprint(), Cert: ca.PEM(), Key: a.keyring.Seal(key, sealedAs(ca.Fingerprint())), Created: now,
	}, nil
}

// active opens the authority that signs.
func (a *authority) active() (*auth.CA, error) {
	record, ok := a.view().Authority()
	if !ok {
		return nil, api.Errorf(api.CodeUnavailable, "the rack's authority is not known here yet; try again in a moment")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.opened != nil && a.opened.Fingerprint() == record.Fingerprint {
		return a.opened, nil
	}
	key, err := a.keyring.Open(record.Key, sealedAs(record.Fingerprint))
	if err != nil {
		return nil, err
	}
	ca, err := auth.ParseCA(record.Cert, key)
	if err != nil {
		return nil, err
	}
	a.opened = ca
	return ca, nil
}

// trust returns the authorities that machines are to trust, in PEM.
func (a *authority) trust() []byte {
	var out bytes.Buffer
	for r := range a.view().Authorities() {
		out.Write(r.Cert)
	}
	return out.Bytes()
}

// replacement makes an authority that is to take the place of the one that signs, who vouches for it.
func (a *authority) replacement() (state.Authority, error) {
	before, err := a.active()
	if err != nil {
		return state.Authority{}, err
	}
	now := time.Now()
	next, err := auth.NewCA(a.view().Rack().Name, now)
	if err != nil {
		return state.Authority{}, err
	}
	record, err := a.seal(next, now)
	if err != nil {
		return state.Authority{}, err
	}
	record.Cross, err = before.Vouch(next)
	return record, err
}

// holds returns what machines are to hold: the fingerprint of the authority that signs, and those of
// all that are to be trusted.
func holds(v *state.View) (issuer string, trusts []string) {
	if a, ok := v.Authority(); ok {
		issuer = a.Fingerprint
	}
	return issuer, v.Trusted()
}

// certify signs the certificate of a machine. A server's chain lists all authorities that are to be
// trusted, for clients to learn of them, and what the one before said for the one that signs.
func (a *authority) certify(name machine.Name, hosts []string, request []byte) (*pb.Certificate, error) {
	ca, err := a.active()
	if err != nil {
		return nil, err
	}
	chain, err := ca.Machine(time.Now(), a.life, name, hosts, request)
	if err != nil {
		return nil, err
	}
	if name.Role == machine.RoleServer {
		for r := range a.view().Authorities() {
			if r.Active {
				chain = append(chain, r.Cross...)
			} else {
				chain = append(chain, r.Cert...)
			}
		}
	}
	return &pb.Certificate{Chain: chain, Trust: a.trust()}, nil
}

// issue signs a certificate for hosts and writes chain and key as one text.
func (a *authority) issue(hosts ...string) ([]byte, error) {
	ca, err := a.active()
	if err != nil {
		return nil, err
	}
	return issuePEM(ca, hosts)
}
