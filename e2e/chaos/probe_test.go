package chaos

import (
	"context"

	"github.com/hashicorp/raft"

	"slipway/raftstore"
)

var _ raftstore.Probe = (*end)(nil)

// Refuses implements raftstore.Probe. A way that is cut refuses too, as a firewall on it may.
func (e *end) Refuses(ctx context.Context, addr string) bool {
	to := raft.ServerAddress(addr)
	if e.gate.pass(ctx) != nil {
		return false
	}
	if _, err := e.net.carry(ctx, message{e.addr, to, nil}); err != nil {
		return true
	}
	return e.net.at(to) == nil
}

// Ask implements raftstore.Probe.
func (e *end) Ask(ctx context.Context, addr string, c raftstore.Claim) (bool, error) {
	to := raft.ServerAddress(addr)
	if err := e.gate.pass(ctx); err != nil {
		return false, err
	}
	if _, err := e.net.carry(ctx, message{e.addr, to, nil}); err != nil {
		return false, err
	}
	peer := e.net.at(to)
	if peer == nil {
		return false, errRefused
	}
	if err := peer.gate.pass(ctx); err != nil {
		return false, err
	}
	yes := peer.agrees != nil && peer.agrees(c)
	_, err := e.net.carry(ctx, message{to, e.addr, nil})
	return yes, err
}
