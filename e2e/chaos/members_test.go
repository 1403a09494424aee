package chaos

import (
	"fmt"
	"time"

	"slipway/api"
	"slipway/raftstore"
)

// replaceMax is how long the exchange of a server may take, whatever else is wrong meanwhile.
const replaceMax = 10 * time.Minute

// replace takes a server's disk away for good. At the end a new server takes its place: the old
// one leaves, the new one is let in with an empty directory, and gets a vote when it has the log.
func (n *nemesis) replace() (func() error, error) {
	if n.replacing.Load() { // of three disks, one may go for good at a time
		return nil, nil
	}
	victims := n.victims(1)
	if victims == nil {
		return nil, nil
	}
	n.replacing.Store(true)
	s := victims[0]
	if err := s.kill(nil); err != nil {
		return nil, err
	}
	return func() error {
		defer n.release(victims)
		defer n.replacing.Store(false)
		old := s.id
		if err := n.asLeader("remove "+old, func(l *raftstore.Store) error { return l.Remove(old) }); err != nil {
			return err
		}
		s.mu.Lock()
		s.lives++
		s.id = fmt.Sprintf("%s+", old)
		s.mu.Unlock()
		if err := s.start(); err != nil {
			return err
		}
		self := raftstore.Member{ID: s.id, Addr: string(s.addr)}
		var target uint64
		err := n.asLeader("admit "+s.id, func(l *raftstore.Store) error {
			target = l.Committed()
			return l.Admit(self)
		})
		if err != nil {
			return err
		}
		return n.asLeader("promote "+s.id, func(l *raftstore.Store) error {
			if at := s.life().store.Applied(); at < target {
				return fmt.Errorf("%s is at %d of %d", s.id, at, target)
			}
			return l.Promote(self)
		})
	}, nil
}

// resign has the leader hand over to another server.
func (n *nemesis) resign() (func() error, error) {
	for _, s := range n.rack.servers {
		if l := s.life(); l != nil && l.store.IsLeader() {
			_ = l.store.Resign() // it may have none to hand over to
			break
		}
	}
	return func() error { return nil }, nil
}

// asLeader tries something on whoever leads until it is done.
func (n *nemesis) asLeader(what string, try func(*raftstore.Store) error) error {
	var err error = api.Errorf(api.CodeUnavailable, "nobody leads")
	for deadline := time.Now().Add(replaceMax); time.Now().Before(deadline); {
		for _, s := range n.rack.servers {
			if l := s.life(); l != nil && l.store.IsLeader() {
				if err = try(l.store); err == nil {
					return nil
				}
			}
		}
		time.Sleep(50 * time.Millisecond) // virtual time
	}
	return fmt.Errorf("%s: not within %s: %w\n%s", what, replaceMax, err, n.rack.picture())
}
