package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// TestRestartedServerIsHeard: a server was restarted and the others find it before it looks for them,
// as they still count on it. What it tells now takes the place of what it told before.
//
// How long it is away decides whether memberlist tells it by chance what it needs to know.
func TestRestartedServerIsHeard(t *testing.T) {
	t.Parallel()
	for away := 600 * time.Millisecond; away < 1400*time.Millisecond; away += 200 * time.Millisecond {
		t.Run(away.String(), func(t *testing.T) {
			t.Parallel()
			restarted(t, away)
		})
	}
}

func restarted(t *testing.T, away time.Duration) {
	one, two := free(t), free(t)
	first := open(t, "one", one, "one", nil)
	run(t, first)
	second := open(t, "two", two, "two, life 1", func() []string { return []string{one} })
	stop := run(t, second)
	hears(t, first, "two, life 1, ")
	for range 50 { // as in a minute
		_ = second.list.UpdateNode(time.Nanosecond) // no time to wait until the word has spread
	}
	hears(t, first, "two, life 1, word 05")

	stop()
	time.Sleep(away) // as long as the program needs to start
	var again *Gossip
	again = open(t, "two", two, "two, life 2", func() []string {
		if again.list.NumMembers() < 2 {
			return nil // it does not know yet whom to ask
		}
		return []string{one}
	})
	run(t, again)
	hears(t, first, "two, life 2, ")
}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// open opens the part of a server, which counts its words.
func open(t *testing.T, id, addr, about string, others func() []string) *Gossip {
	t.Helper()
	words := 0
	g, err := Open(Config{
		ID: id, Addr: addr, Key: make([]byte, 32), Log: slog.New(slog.DiscardHandler),
		About: func() []byte { words++; return fmt.Appendf(nil, "%s, word %03d", about, words) },
		Others: func() []string {
			if others == nil {
				return nil
			}
			return others()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// run runs a part until stop is called, at the latest until the test ends.
func run(t *testing.T, g *Gossip) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	ended := false
	stop = func() {
		cancel()
		if ended {
			return
		}
		ended = true
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// hears waits until the other server tells what begins so, much sooner than memberlist compares all it
// knows by itself.
func hears(t *testing.T, g *Gossip, want string) {
	t.Helper()
	end := time.Now().Add(12 * time.Second)
	for last := ""; ; time.Sleep(10 * time.Millisecond) { // polls
		for _, m := range g.Members() {
			if m.ID == "two" {
				last = string(m.About)
			}
		}
		if strings.HasPrefix(last, want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q is what is known last, want %q", last, want)
		}
	}
}
