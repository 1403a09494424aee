package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"

	"slipway/api"
	"slipway/raftstore"
)

// claimGreeting begins a connection that asks whether a server agrees with a claim; the epoch follows. The
// claim is a line of JSON, the answer another one. A server of before does not know this greeting, and so
// agrees with nobody.
const claimGreeting = "slipway-claim/1 "

var _ raftstore.Probe = (*Link)(nil)

// Agrees has claims answered by agrees.
func (k *Link) Agrees(agrees func(raftstore.Claim) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.agrees = agrees
}

// Refuses reports whether an address refuses connections.
func (k *Link) Refuses(ctx context.Context, addr string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// Ask asks the server at an address whether it agrees with a claim.
func (k *Link) Ask(ctx context.Context, addr string, c raftstore.Claim) (bool, error) {
	g, err := k.dial(ctx, addr, claimGreeting)
	if err != nil {
		return false, err
	}
	defer g.Close()
	if err := json.NewEncoder(g.Conn).Encode(c); err != nil {
		return false, fmt.Errorf("ask the server at %s: %w", addr, err)
	}
	line, err := g.line()
	if err != nil {
		return false, fmt.Errorf("ask the server at %s: %w", addr, err)
	}
	return line == "true", nil
}

// answer answers one claim.
func (k *Link) answer(g *greeted) error {
	line, err := g.line()
	if err != nil {
		return err
	}
	var c raftstore.Claim
	if err := json.Unmarshal([]byte(line), &c); err != nil {
		return api.Errorf(api.CodeInvalid, "the claim is none: %w", err)
	}
	k.mu.Lock()
	agrees := k.agrees
	k.mu.Unlock()
	_, err = fmt.Fprintln(g.Conn, agrees != nil && agrees(c))
	return err
}
