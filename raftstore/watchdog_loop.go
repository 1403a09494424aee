package raftstore

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// watchdog looks after a replica. Its loop does no I/O and waits for nobody: it is what is left
// when a disk hangs.
type watchdog struct {
	gate     *gate
	leading  chan bool     // capacity 1, what LeaderChanges returns
	ended    chan struct{} // closed when the loop has ended
	leads    time.Time     // since when; zero if it does not
	looked   time.Time     // at the replica, last
	awake    time.Time     // since when it looks without a pause
	offered  time.Time
	shutdown raft.Future // of Raft, once it was silenced

	full   atomic.Bool // what the disk said when it was last asked
	asking atomic.Bool // the disk is being asked
}

func newWatchdog() *watchdog {
	return &watchdog{gate: &gate{}, leading: make(chan bool, 1), ended: make(chan struct{})}
}

// watch runs until the replica is closed, or dead.
func (s *Store) watch() {
	w := s.watchdog
	defer close(w.ended)
	l := s.cfg.limits
	if l == (limits{}) {
		l = defaultLimits
	}
	tick := time.NewTicker(l.tick)
	defer tick.Stop()
	for {
		select {
		case <-s.closed:
			return
		case leads := <-s.raft.LeaderCh():
			if w.shutdown == nil {
				w.lead(leads)
			}
		case <-tick.C:
			if now := time.Now(); now.Sub(w.looked) > l.hang/2 {
				w.looked, w.awake = now, now
			} else {
				w.looked = now
			}
			if do, why := l.judge(s.signs()); do != stepNone && s.do(do, why) {
				return
			}
		}
	}
}

// lead tells who listens whether this server leads; a word that was not heard yet is replaced.
func (w *watchdog) lead(leads bool) {
	if w.leads = (time.Time{}); leads {
		w.leads = time.Now()
	}
	select {
	case <-w.leading:
	default:
	}
	w.leading <- leads // this goroutine is the only one that sends
}

// signs looks at the replica.
func (s *Store) signs() signs {
	w := s.watchdog
	g := signs{
		now: w.looked, awake: w.awake, leads: w.leads, busy: s.log.BusySince(), failed: s.log.Failed(), unread: s.machine.failed.get(),
		others: s.Servers() > 1, full: w.full.Load(), offered: w.offered, silenced: w.shutdown != nil,
	}
	if s.cfg.Loop != nil && !w.leads.IsZero() {
		g.loop, g.loopWaits = s.cfg.Loop()
	}
	if w.asking.CompareAndSwap(false, true) {
		go func() { // ends when the disk answers
			w.full.Store(s.log.Low())
			w.asking.Store(false)
		}()
	}
	return g
}

// do takes a step and reports whether it was the last.
func (s *Store) do(do step, why string) bool {
	w, log := s.watchdog, s.cfg.Log
	switch do {
	case stepOffer:
		w.offered = time.Now()
		log.Warn("leadership offered", "cause", why)
		go func() { // ends when Raft answers: never, if its loop hangs
			if err := s.raft.LeadershipTransfer().Error(); err != nil {
				log.Warn("leadership not taken", "err", err)
			}
		}()
	case stepSilence:
		log.Error("replica stopped", "cause", why)
		w.gate.shut.Store(true)
		w.shutdown = s.raft.Shutdown()
		w.lead(false)
	case stepDie:
		w.gate.shut.Store(true)
		w.lead(false)
		err := died(why)
		if unread := s.machine.failed.get(); unread != nil {
			err = stopped(unread)
		}
		if s.cfg.Died == nil {
			panic(err) // to go on would be to look alive
		}
		s.cfg.Died(err)
		return true
	}
	return false
}
