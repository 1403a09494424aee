package hosts

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"slipway/api"
)

// roundTrip is the shortest of many round trips between two hosts, or the first that is short
// enough: a busy machine makes none shorter.
func roundTrip(t *testing.T, a, b *radio, enough time.Duration) time.Duration {
	t.Helper()
	b.hears(a, "warm")
	a.hears(b, "warm")
	best := time.Hour
	for n := 0; n < 10 || n < 100 && best > enough; n++ {
		begin := time.Now()
		b.hears(a, begin.String())
		a.hears(b, begin.String())
		best = min(best, time.Since(begin))
	}
	return best
}

func TestLatency(t *testing.T) {
	r := newRig(t, 3)
	air := radios(t, r)
	const delay, slack = 20 * time.Millisecond, 15 * time.Millisecond
	check := func(what string, a, b *radio, want time.Duration) {
		t.Helper()
		if got := roundTrip(t, a, b, want+slack); got < want || got > want+slack {
			t.Errorf("%s: a round trip takes %s, want %s", what, got, want)
		}
	}
	check("whole", air[0], air[1], 0)
	must(t, r.Latency(1, delay, 0))
	check("from a peer", air[0], air[1], 2*delay)
	check("from the host", air[1], air[0], 2*delay)
	check("beside it", air[0], air[2], 0)
	must(t, r.Latency(0, delay/2, 0))
	check("both", air[0], air[1], 3*delay)
	must(t, r.Latency(0, 0, 0))
	check("one of both", air[0], air[1], 2*delay)
	must(t, r.Latency(1, delay/2, delay/10))
	check("changed", air[0], air[1], delay)

	// Other faults act as before.
	must(t, r.Partition([]int{0}, []int{1}))
	air[1].deafTo(air[0], "parted")
	air[1].hears(air[2], "of the other part")
	must(t, r.Partition())
	must(t, r.Cut(1))
	air[1].deafTo(air[0], "cut")
	must(t, r.Heal(1))
	check("healed", air[0], air[1], 0)

	// It outlives the power.
	must(t, r.Latency(1, delay, 0))
	must(t, r.Host(1).PowerOff())
	must(t, r.Host(1).PowerOn())
	air[1] = newRadio(t, r.Host(1))
	check("after a reboot", air[0], air[1], 2*delay)
	must(t, r.HealAll())
	check("all healed", air[0], air[1], 0)
	if err := r.Latency(0, -1, 0); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a negative latency: %v", err)
	}
}

// What the kernel puts off, checksums and segments, gets through a relay: streams stay fast.
func TestLatencyIsNoLimit(t *testing.T) {
	r := newRig(t, 2)
	_, _, _, addr := server(t, r.Host(1))
	c := dial(t, r.Host(0), addr)
	must(t, r.Latency(1, time.Millisecond, time.Millisecond))
	ping(t, c)
	got := throughput(t, r.Host(0), r.Host(1), 64<<20)
	t.Logf("%d Mbit/s", got/Mbit)
	if got < 100*Mbit {
		t.Errorf("%d Mbit/s through a relay", got/Mbit)
	}
	must(t, r.Heal(1))
	ping(t, c)
}

// delayHost is a program that asks for latency, says when it is there, and ends when told to.
func delayHost(args []string) error {
	r, err := Open(args[0])
	if err != nil {
		return err
	}
	if err := r.Latency(1, 20*time.Millisecond, 0); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestLatencyOfAnotherProgram(t *testing.T) {
	r := newRig(t, 3)
	air := radios(t, r)
	begin := func() (*Cmd, io.Closer) {
		t.Helper()
		c := self(t.Context(), nil, "delay", r.dir)
		in, err := c.StdinPipe()
		must(t, err)
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Cmd.Start())
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		return c, in
	}
	c, in := begin()
	if got := roundTrip(t, air[0], air[1], 40*time.Millisecond); got < 40*time.Millisecond {
		t.Errorf("a round trip takes %s", got)
	}
	in.Close()
	must(t, c.Cmd.Wait())
	must(t, r.Heal(0)) // a change of another host: what nobody holds any longer is not held
	if got := roundTrip(t, air[0], air[1], 20*time.Millisecond); got > 20*time.Millisecond {
		t.Errorf("without the program a round trip takes %s", got)
	}
	// What this one asks for replaces what another did, and the other way round.
	c, in = begin()
	must(t, r.Latency(1, 5*time.Millisecond, 0))
	if got := roundTrip(t, air[0], air[1], 35*time.Millisecond); got < 10*time.Millisecond || got > 35*time.Millisecond {
		t.Errorf("taken over, a round trip takes %s", got)
	}
	in.Close()
	must(t, c.Cmd.Wait())
	if got := roundTrip(t, air[0], air[1], 35*time.Millisecond); got < 10*time.Millisecond || got > 35*time.Millisecond {
		t.Errorf("after the other's end a round trip takes %s", got)
	}
	c, in = begin()
	if got := roundTrip(t, air[0], air[1], 40*time.Millisecond); got < 40*time.Millisecond {
		t.Errorf("taken back, a round trip takes %s", got)
	}
	must(t, r.Heal(1))
	in.Close()
	must(t, c.Cmd.Wait())
}
