package sim

import "time"

// network carries messages between servers and nodes. Its faults are set by the scenario.
type network struct {
	Delay     time.Duration // at most, on top of one millisecond
	Loss      int           // messages in a thousand that get lost
	Duplicate int           // in a thousand that arrive twice
	cut       map[[2]string]bool
}

// Cut stops messages from one end to another, but not back.
func (w *World) Cut(from, to string) { w.net.cut[[2]string{from, to}] = true }

// Heal removes all cuts.
func (w *World) Heal() { w.net.cut = map[[2]string]bool{} }

// Isolate cuts an end off from every server, both ways.
func (w *World) Isolate(end string) {
	for _, s := range w.servers {
		if s.name != end {
			w.Cut(end, s.name)
			w.Cut(s.name, end)
		}
	}
	for _, n := range w.nodes {
		if end != string(n.id) && w.serverNamed(end) != nil {
			w.Cut(end, string(n.id))
			w.Cut(string(n.id), end)
		}
	}
}

// send delivers a message after a while, perhaps never, perhaps twice, in any order.
func (w *World) send(from, to string, deliver func()) {
	w.Messages++
	if w.net.cut[[2]string{from, to}] || w.chance(w.net.Loss) {
		return
	}
	times := 1
	if w.chance(w.net.Duplicate) {
		times = 2
	}
	for range times {
		d := time.Millisecond
		if w.net.Delay > 0 {
			d += time.Duration(w.rand.Uint64() % uint64(w.net.Delay))
		}
		w.after(d, func() {
			if !w.net.cut[[2]string{from, to}] {
				deliver()
			}
		})
	}
}

// chance is true so many times in a thousand.
func (w *World) chance(permille int) bool { return permille > 0 && w.pick(1000) < permille }

// pick returns a number from 0 to n-1.
func (w *World) pick(n int) int { return int(w.rand.Uint64() % uint64(n)) }
