package dispatch

import (
	"fmt"
	"testing"
	"time"

	"slipway/api"
)

// TestLargeRacksSpeakLess: agents are asked for as many heartbeats as a server can hear.
func TestLargeRacksSpeakLess(t *testing.T) {
	for n, want := range map[int]time.Duration{0: time.Second, 5000: time.Second, 7500: 1500 * time.Millisecond, 20_000: 2 * time.Second} {
		s := New(Config{})
		for i := range n {
			s.sessions[api.NodeID(fmt.Sprint("s", i))] = nil
		}
		if got := s.interval(); got != want {
			t.Errorf("%d nodes speak every %s, want %s", n, got, want)
		}
	}
}
