package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// orders is in how many orders the machines are switched on again.
const orders = 6

// TestPowerFailure: the power of all machines goes at once and comes back in any order. The apps
// answer again, and nobody gave a command.
func TestPowerFailure(t *testing.T) {
	r := start(t, 3, 3)
	r.deploy("shop", copies)
	r.complete("shop", copies)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	parts := append(append([]*Part(nil), r.Cluster.Servers()...), r.Cluster.Nodes()...)
	for i := range orders {
		for _, p := range parts {
			if err := p.PowerOff(); err != nil {
				t.Fatal(err)
			}
			p.wait()
		}
		order := chance.Perm(len(parts))
		switch i {
		case 0: // nodes first
			order = []int{3, 4, 5, 0, 1, 2}
		case 1: // servers first
			order = []int{0, 1, 2, 3, 4, 5}
		}
		began := time.Now()
		for _, n := range order {
			if err := parts[n].PowerOn(); err != nil {
				t.Fatal(err)
			}
			if err := parts[n].Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(chance.IntN(1000)) * time.Millisecond) // machines are not equally fast
		}
		r.whole("shop", copies)
		r.answers("shop")
		t.Logf("order %v: whole again after %s", order, time.Since(began).Round(100*time.Millisecond))
	}
}

// answers waits until an app answers by every router.
func (r *rack) answers(app string) {
	r.t.Helper()
	for _, node := range r.Cluster.Nodes() {
		c, idle := clientOf(node.Addr().String()+":443", app+"."+Domain)
		r.await(fmt.Sprintf("answer by %s", node.Name()), 30*time.Second, func() (string, bool) {
			ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
			defer cancel()
			err := get(ctx, c, "https://"+app+"."+Domain+"/")
			return fmt.Sprint(err), err == nil
		})
		idle()
	}
}
