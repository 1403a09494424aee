package link

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"slipway/api/machine"
	"slipway/raftstore"
	"slipway/server/auth"
)

// start serves a link with a certificate of its own.
func start(t *testing.T, ca *auth.CA, name machine.Name, epoch string) *Link {
	t.Helper()
	key, request, err := machine.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Machine(time.Now(), time.Hour, name, []string{"127.0.0.1"}, request)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := machine.Keep(t.TempDir(), key, chain, ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := New(l, identity, epoch, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { k.Close() })
	return k
}

// TestClaims: a server of the rack has its claim judged, whoever else asks has not.
func TestClaims(t *testing.T) {
	ca, err := auth.NewCA("shop", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := func(id string) machine.Name { return machine.Name{Cluster: "shop", Role: machine.RoleServer, ID: id} }
	const epoch = "1-a"
	s1 := start(t, ca, server("s1"), epoch)
	claim := raftstore.Claim{Server: "s2", Leader: "s3", Term: 1 << 63, LastTerm: 7, Last: 1 << 63}
	var asked atomic.Int32
	agrees := true
	s1.Agrees(func(c raftstore.Claim) bool {
		asked.Add(1)
		return agrees && c == claim
	})
	ask := func(k *Link) (bool, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return k.Ask(ctx, s1.Addr().String(), claim)
	}
	s2 := start(t, ca, server("s2"), epoch)
	if yes, err := ask(s2); !yes || err != nil {
		t.Errorf("a claim that holds is answered %t, %v", yes, err)
	}
	agrees = false
	if yes, err := ask(s2); yes || err != nil {
		t.Errorf("a claim that does not hold is answered %t, %v", yes, err)
	}
	agrees = true
	had := asked.Load()
	for what, k := range map[string]*Link{
		"a server of another history": start(t, ca, server("s4"), "1-b"),
		"a node":                      start(t, ca, machine.Name{Cluster: "shop", Role: machine.RoleAgent, ID: "n1"}, epoch),
	} {
		if yes, err := ask(k); yes || err == nil {
			t.Errorf("the claim of %s is answered %t", what, yes)
		}
	}
	if n := asked.Load() - had; n > 0 {
		t.Errorf("%d claims of strangers were judged", n)
	}
}

// TestRefuses: an address refuses when nobody listens, and only then.
func TestRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k, addr := &Link{}, l.Addr().String()
	if k.Refuses(t.Context(), addr) {
		t.Error("an address at which somebody listens refuses")
	}
	l.Close()
	if !k.Refuses(t.Context(), addr) {
		t.Error("an address at which nobody listens any more does not refuse")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if k.Refuses(ended, addr) {
		t.Error("an address that was not reached in time refuses")
	}
}
