package hosts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// latency is how long the frames of a host are held, each way. The kernel has nothing that holds
// them (netem is rarely built in), and so a program does: the one that asked for it.
type latency struct {
	Delay  time.Duration `json:"delay"`
	Jitter time.Duration `json:"jitter"`
	By     pause         `json:"by"`     // the program
	Relays string        `json:"relays"` // the Rig in that program
}

// relays hold the frames of hosts whose latency this Rig was asked for.
type relays struct {
	id string

	mu   sync.Mutex
	stop map[int]context.CancelFunc // by host, for as long as its relay runs
	wg   sync.WaitGroup
}

// Latency holds all frames to and from a host for delay, and up to jitter more, each way: a round
// trip takes twice as long. Their order stays. Zero for both ends it.
//
// This program does the holding: when it ends without Close or Heal, the host is silent until
// the next change of the rig's faults.
func (r *Rig) Latency(host int, delay, jitter time.Duration) error {
	if delay < 0 || jitter < 0 {
		return api.Errorf(api.CodeInvalid, "hosts: latency of %s and %s; give 0 for none", delay, jitter)
	}
	self := pause{PID: os.Getpid()}
	var err error
	if self.Start, err = startTime(self.PID); err != nil {
		return fmt.Errorf("hosts: latency: %w", err)
	}
	err = r.change([]int{host}, func(s *state) error {
		// A relay that runs loses its link, and looks at what is wanted then.
		delete(s.Faults.Latency, host)
		if err := s.applyFaults(); err != nil || delay+jitter == 0 {
			return err
		}
		set(&s.Faults.Latency, host, latency{Delay: delay, Jitter: jitter, By: self, Relays: r.relays.id})
		// It is written before there is a new link: who has the link finds what it is for.
		if err := s.save(); err != nil {
			return err
		}
		return s.applyFaults()
	})
	if err == nil && delay+jitter > 0 {
		r.startRelay(host)
	}
	return err
}

// startRelay makes sure that a relay of a host runs. It ends when it is no longer wanted.
func (r *Rig) startRelay(host int) {
	r.relays.mu.Lock()
	defer r.relays.mu.Unlock()
	if r.relays.stop[host] != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	if r.relays.stop == nil {
		r.relays.stop = map[int]context.CancelFunc{}
	}
	r.relays.stop[host] = cancel
	r.relays.wg.Go(func() { r.relay(ctx, host) })
}

// stopRelays ends all relays of this Rig.
func (r *Rig) stopRelays() {
	r.relays.mu.Lock()
	for _, stop := range r.relays.stop {
		stop()
	}
	r.relays.mu.Unlock()
	r.relays.wg.Wait()
}

// relayRetry is how soon a relay looks again whether a host that was cut or off has a link.
const relayRetry = 10 * time.Millisecond

func (r *Rig) relay(ctx context.Context, host int) {
	tick := time.NewTicker(relayRetry)
	defer tick.Stop()
	for {
		if s, l, ok := r.wanted(ctx, host); ok {
			// Its links go away and come back: every failure is one of them.
			_ = r.holdFrames(ctx, s, host, l)
		} else if r.forget(ctx, host) {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// wanted returns the latency of a host, if it is this Rig's to make.
func (r *Rig) wanted(ctx context.Context, host int) (*state, latency, bool) {
	s, err := load(r.dir)
	if err != nil || ctx.Err() != nil {
		return nil, latency{}, false
	}
	l, ok := s.Faults.Latency[host]
	return s, l, ok && l.Relays == r.relays.id
}

// forget takes a relay off the list, unless it is wanted again.
func (r *Rig) forget(ctx context.Context, host int) bool {
	r.relays.mu.Lock()
	defer r.relays.mu.Unlock()
	if _, _, again := r.wanted(ctx, host); again {
		return false
	}
	r.relays.stop[host]()
	delete(r.relays.stop, host)
	return true
}

// The bridge's end of the link that leads to a relay, and the relay's end.
func delayPort(i int) string { return fmt.Sprintf("d%d", i) }
func relayPort(i int) string { return fmt.Sprintf("r%d", i) }

// detour leads a host's port to its relay and that to the bridge; or to the bridge directly.
func (s *state) detour(i int, h *netlink.Handle, port netlink.Link) error {
	bridge, err := h.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find switch: %w", err)
	}
	old, err := h.LinkByName(delayPort(i))
	_, missing := errors.AsType[netlink.LinkNotFoundError](err)
	if err != nil && !missing {
		return err
	}
	if _, delayed := s.Faults.Latency[i]; !delayed {
		if !missing {
			if err := h.LinkDel(old); err != nil {
				return err
			}
		}
		return h.LinkSetMaster(port, bridge)
	}
	if err := h.LinkSetNoMaster(port); err != nil || !missing {
		return err
	}
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: delayPort(i), MasterIndex: bridge.Attrs().Index}, PeerName: relayPort(i),
	}
	if err := h.LinkAdd(pair); err != nil {
		return err
	}
	for _, name := range []string{delayPort(i), relayPort(i)} {
		link, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetUp(link)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holdFrames passes frames between a host and the bridge, late, until ctx ends or a link fails.
func (r *Rig) holdFrames(ctx context.Context, s *state, i int, l latency) error {
	host, err := s.listen(port(i))
	if err != nil {
		return err
	}
	bridge, err := s.listen(relayPort(i))
	if err != nil {
		host.Close()
		return err
	}
	if _, now, ok := r.wanted(ctx, i); !ok || now != l { // it was changed before the links were there
		return errors.Join(host.Close(), bridge.Close())
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, way := range []struct{ from, to *os.File }{{host, bridge}, {bridge, host}} {
		q := &queue{frames: make(chan frame, queueMax), latency: l}
		g.Go(func() error { return q.fill(way.from) })
		g.Go(func() error { return q.drain(ctx, way.to) })
	}
	g.Go(func() error {
		<-ctx.Done()
		return errors.Join(host.Close(), bridge.Close(), ctx.Err()) // which ends all others
	})
	return g.Wait()
}

// listen opens a socket for the whole frames of a link of the switch (packet(7)). With each comes,
// and goes, what the kernel has put off: its checksum, and its segments if it is a large one.
func (s *state) listen(link string) (*os.File, error) {
	h, err := s.Switch.handle()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	l, err := h.LinkByName(link)
	if err != nil {
		return nil, err
	}
	var fd int
	err = onThread(func() error {
		if err := enter(s.Switch, unix.CLONE_NEWNET); err != nil {
			return err
		}
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1}, {unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queueBytes}, {unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, queueBytes},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // in network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), link), nil
}

// Limits of what a relay holds each way; what comes on top is lost, as in a switch.
const (
	queueMax   = 8192     // frames
	queueBytes = 16 << 20 // bytes
	frameMax   = 10 + 14 + 4 + 64<<10
)

type frame struct {
	due   time.Time
	bytes []byte
}

// queue holds frames of one direction.
type queue struct {
	latency
	frames chan frame
	held   atomic.Int64 // bytes
}

// fill reads frames until the link fails.
func (q *queue) fill(from *os.File) error {
	b := make([]byte, frameMax)
	for {
		n, err := from.Read(b)
		if err != nil {
			return err
		}
		late := q.Delay
		if q.Jitter > 0 {
			late += rand.N(q.Jitter)
		}
		if q.held.Load() > queueBytes {
			continue
		}
		select {
		case q.frames <- frame{due: time.Now().Add(late), bytes: append([]byte(nil), b[:n]...)}:
			q.held.Add(int64(n))
		default:
		}
	}
}

// drain writes frames when they are due, until ctx ends or the link fails.
func (q *queue) drain(ctx context.Context, to *os.File) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var f frame
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f = <-q.frames:
		}
		q.held.Add(-int64(len(f.bytes)))
		timer.Reset(time.Until(f.due))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		_, err := to.Write(f.bytes)
		if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrClosed) {
			return err
		}
	}
}
