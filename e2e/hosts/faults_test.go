package hosts

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway/api"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCutAndHeal(t *testing.T) {
	r := newRig(t, 3)
	air := radios(t, r)
	air[1].hears(air[0], "whole")
	must(t, r.Cut(1))
	air[1].deafTo(air[0], "to the cut host")
	air[0].deafTo(air[1], "from the cut host")
	air[2].hears(air[0], "beside it")
	must(t, r.Heal(1))
	air[1].hears(air[0], "healed")
	air[0].hears(air[1], "and back")
}

// A connection that was open before the cut goes on after it.
func TestConnectionsSurviveACut(t *testing.T) {
	r := newRig(t, 2)
	_, _, _, addr := server(t, r.Host(1))
	c := dial(t, r.Host(0), addr)
	must(t, r.Cut(1))
	if _, err := c.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	b := make([]byte, 4)
	if n, err := c.Read(b); n > 0 || err == io.EOF {
		t.Errorf("an answer through a cut: %q, %v", b[:n], err)
	}
	must(t, r.Heal(1))
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "late" {
		t.Errorf("after the cut: %q, %v", b, err)
	}
	ping(t, c)
}

func TestCutOneWay(t *testing.T) {
	r := newRig(t, 3)
	air := radios(t, r)
	air[1].hears(air[0], "whole") // both know the way: the answer to who has an address is a frame too
	air[0].hears(air[1], "whole")
	must(t, r.CutOneWay(0, 1))
	air[1].deafTo(air[0], "the way that is cut")
	air[0].hears(air[1], "the way back")
	air[2].hears(air[0], "to another")
	air[1].hears(air[2], "from another")
	must(t, r.Heal(1))
	air[1].hears(air[0], "healed")
}

func TestPartition(t *testing.T) {
	r := newRig(t, 5)
	air := radios(t, r)
	check := func(what string, parted func(a, b int) bool) {
		t.Helper()
		for a := range air {
			for b := range air {
				switch {
				case a == b:
				case parted(a, b):
					air[b].deafTo(air[a], fmt.Sprintf("%s: %d to %d", what, a, b))
				default:
					air[b].hears(air[a], fmt.Sprintf("%s: %d to %d", what, a, b))
				}
			}
		}
	}
	check("whole", func(a, b int) bool { return false })
	must(t, r.Partition([]int{0, 1}, []int{2, 3})) // 4 sees all
	check("two and two", func(a, b int) bool { return a < 4 && b < 4 && a/2 != b/2 })
	must(t, r.Partition([]int{0}, []int{1, 2, 3, 4}))
	check("one and four", func(a, b int) bool { return (a == 0) != (b == 0) })
	must(t, r.Heal(0))
	air[1].deafTo(air[0], "a partition is not of one host")
	must(t, r.Partition())
	check("whole again", func(a, b int) bool { return false })
}

func TestLoss(t *testing.T) {
	r := newRig(t, 2)
	air := radios(t, r)
	const sent, percent = 3000, 30
	for _, direction := range []struct {
		from, to *radio
		end      func() error
	}{
		{air[0], air[1], func() error { return r.Loss(1, 0) }},
		{air[1], air[0], func() error { return r.Heal(1) }},
	} {
		raw, err := direction.to.SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) { // all of them wait there
			must(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20))
		}))
		direction.to.hears(direction.from, "whole")
		must(t, r.Loss(1, percent))
		for range sent {
			direction.from.say(direction.to, "x")
		}
		must(t, direction.end())
		const after = 100
		for range after {
			direction.from.say(direction.to, "after")
		}
		direction.from.say(direction.to, "end") // in order behind the others: nothing here delays
		got := map[string]int{}
		for m := ""; m != "end"; got[m]++ {
			if m = direction.to.next(5 * time.Second); m == "" {
				t.Fatal("the end was lost without loss")
			}
		}
		if got["after"] != after {
			t.Errorf("%d messages of %d came without loss", got["after"], after)
		}
		// Six standard deviations, each way.
		if lost := 100 * float64(sent-got["x"]) / sent; lost < percent-5 || lost > percent+5 {
			t.Errorf("%.1f %% of the messages were lost, want %d", lost, percent)
		}
	}
}

func TestRate(t *testing.T) {
	r := newRig(t, 2)
	const limit = 20 * Mbit
	for _, way := range []struct{ from, to *Host }{{r.Host(0), r.Host(1)}, {r.Host(1), r.Host(0)}} {
		must(t, r.Rate(1, limit))
		if got := throughput(t, way.from, way.to, 1500<<10); got > limit*5/4 || got < limit/3 {
			t.Errorf("%s to %s: %d kbit/s, the limit is %d", way.from.Name(), way.to.Name(), got/Kbit, limit/Kbit)
		}
		must(t, r.Heal(1))
		if got := throughput(t, way.from, way.to, 64<<20); got < 10*limit {
			t.Errorf("%s to %s: %d kbit/s without a limit", way.from.Name(), way.to.Name(), got/Kbit)
		}
	}
	// It holds for both ends after a reboot.
	must(t, r.Rate(1, limit))
	must(t, r.Host(1).PowerOff())
	must(t, r.Host(1).PowerOn())
	if got := throughput(t, r.Host(1), r.Host(0), 1500<<10); got > limit*5/4 || got < limit/3 {
		t.Errorf("after a reboot: %d kbit/s, the limit is %d", got/Kbit, limit/Kbit)
	}
}

// throughput sends bytes from one host to another over TCP.
func throughput(t *testing.T, from, to *Host, size int64) BitRate {
	t.Helper()
	l := inHost(t, to, func() (net.Listener, error) { return net.Listen("tcp", to.Addr().String()+":0") })
	defer l.Close()
	c := inHost(t, from, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) })
	begin := time.Now()
	go func() {
		defer c.Close()
		io.CopyN(c, zeros{}, size)
	}()
	in, err := l.Accept()
	must(t, err)
	defer in.Close()
	n, err := io.Copy(io.Discard, in)
	if err != nil || n != size {
		t.Fatalf("%d bytes of %d: %v", n, size, err)
	}
	return BitRate(float64(8*n) / time.Since(begin).Seconds())
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestFaultsThatAreNone(t *testing.T) {
	r := newRig(t, 2)
	for what, err := range map[string]error{
		"no such host": r.Cut(2), "before the first": r.Heal(-1), "a negative loss": r.Loss(0, -1), "too much loss": r.Loss(0, 101),
		"a negative rate": r.Rate(0, -1), "in two groups": r.Partition([]int{0}, []int{1, 0}), "nobody": r.CutOneWay(0, 7),
	} {
		if api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	air := radios(t, r)
	air[0].hears(air[1], "none of them had a consequence")
}
