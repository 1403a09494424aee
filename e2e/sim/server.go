package sim

import (
	"bytes"
	"fmt"
	"maps"
	"time"

	"slipway/api"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server"
	"slipway/server/steps"
)

// Server is one simulated server: a replica of the state behind a model of the replicated log,
// and the real decisions while it leads.
type Server struct {
	w    *World
	name string
	up   bool
	life int           // changes with every crash
	skew time.Duration // of its clock
	disk disk

	role     role
	term     uint64
	vote     string
	leader   string // as it knows
	votes    map[string]bool
	log      []entry
	synced   int // entries of the log that are on disk
	commit   uint64
	applied  uint64
	state    *state.State
	electDue time.Time
	electing bool

	// While it leads:
	next, match map[string]uint64
	heard       map[string]time.Time
	since       time.Time // by its clock; zero until the barrier is applied
	barrier     uint64
	decider     *server.Decider
	changes     state.Changes
	passing     bool
	due         time.Time // by its clock
	dueEvent    time.Time
	beats       map[api.NodeID]time.Time
	waiting     map[uint64]func([]state.Result) // proposals, by index
	gathering   []gathered
}

// now is the server's clock.
func (s *Server) now() time.Time { return s.w.Now.Add(s.skew) }

// live plans an event of this life of the server.
func (s *Server) live(d time.Duration, do func()) {
	life := s.life
	s.w.after(d, func() {
		if s.up && s.life == life {
			do()
		}
	})
}

// start boots a server from its disk.
func (s *Server) start() {
	s.up, s.life = true, s.life+1
	s.role, s.term, s.vote, s.leader = follower, s.disk.term, s.disk.vote, ""
	s.log = s.disk.load()
	s.synced, s.electing = len(s.log), false
	s.stopLeading()
	s.restore()
	s.resetElection()
}

// restore makes the state of the snapshot.
func (s *Server) restore() {
	s.state = state.New()
	if body := s.disk.snapshot.body; body != nil {
		st, err := state.Decode(bytes.NewReader(body))
		if err != nil {
			s.w.fail("%s cannot read its snapshot: %v", s.name, err)
			return
		}
		s.state = st
	}
	s.commit, s.applied = s.disk.snapshot.index, s.disk.snapshot.index
}

// crash ends a server. Of what it had not synced, half of a record may be on disk.
func (s *Server) crash() {
	if !s.up {
		return
	}
	s.w.note("%s crashes", s.name)
	if s.synced < len(s.log) && s.w.torn && !s.disk.Full {
		half := s.log[s.synced].encode()
		s.disk.records = append(s.disk.records, half[:len(half)/2])
	}
	s.up, s.life = false, s.life+1
}

func (s *Server) restart() {
	if !s.up {
		s.w.note("%s starts", s.name)
		s.start()
	}
}

// advance applies what is committed.
func (s *Server) advance(commit uint64) {
	last, _ := s.last()
	s.commit = max(s.commit, min(commit, last))
	for s.applied < s.commit {
		e := s.log[s.applied-s.disk.snapshot.index]
		s.applied++
		s.apply(e)
	}
	if uint64(len(s.log)) > 2*snapshotSize && s.applied-s.disk.snapshot.index > snapshotSize && !s.disk.Full {
		s.compact()
	}
}

// compact replaces the applied part of the log by a snapshot.
func (s *Server) compact() {
	var b bytes.Buffer
	if err := s.state.View().Encode(&b); err != nil {
		s.w.fail("%s cannot write a snapshot: %v", s.name, err)
		return
	}
	n := s.applied - s.disk.snapshot.index
	if uint64(s.synced) < n {
		return
	}
	term, _ := s.termAt(s.applied)
	s.log = append([]entry(nil), s.log[n:]...)
	s.disk.records = append([][]byte(nil), s.disk.records[n:]...)
	s.synced -= int(n)
	s.disk.snapshot = snapshot{s.applied, term, b.Bytes()}
	s.w.compare(s, b.Bytes())
}

// apply applies one entry to the replica, and to the truth if it is the first to do so.
func (s *Server) apply(e entry) {
	var results []state.Result
	if len(e.data) > 0 {
		entries, err := raftstore.Decode(e.data)
		if err != nil {
			s.w.fail("%s cannot read entry %d: %v", s.name, e.index, err)
			return
		}
		results = s.state.ApplyAll(e.index, entries)
		s.w.committed(e, entries, results)
	} else {
		s.w.committed(e, nil, nil)
	}
	if s.role != leader {
		return
	}
	if e.index == s.barrier {
		s.since = s.now()
		s.changes = state.Everything()
		s.planPass()
		s.w.leaderReady(s)
	}
	for _, r := range results {
		s.changes.Merge(r.Changes)
		s.w.push(s, r.Changes)
	}
	if !s.since.IsZero() && !s.changes.Empty() {
		s.planPass()
	}
	if done := s.waiting[e.index]; done != nil {
		delete(s.waiting, e.index)
		done(results)
	}
}

// beginLeading commits a barrier: what was committed before is known only then.
func (s *Server) beginLeading() {
	s.stopLeading()
	s.decider = new(server.Decider)
	s.beats, s.waiting = map[api.NodeID]time.Time{}, map[uint64]func([]state.Result){}
	s.barrier = s.appendOwn(nil)
}

func (s *Server) stopLeading() {
	s.since, s.barrier, s.decider, s.beats, s.waiting = time.Time{}, 0, nil, nil, nil
	s.changes, s.due, s.passing, s.gathering = state.Changes{}, time.Time{}, false, nil
}

// appendOwn appends an entry as the leader and returns its index; 0 if the disk refuses, which
// ends the leadership: others may have room.
func (s *Server) appendOwn(data []byte) uint64 {
	last, _ := s.last()
	if !s.write([]entry{{last + 1, s.term, data}}) {
		s.follow("")
		return 0
	}
	term := s.term
	s.sync(func() {
		if s.role == leader && s.term == term {
			s.commitMajority()
		}
	})
	for _, o := range s.w.servers {
		if o != s {
			s.replicate(o)
		}
	}
	return last + 1
}

// propose commits entries; done hears their results, or never.
func (s *Server) propose(entries []state.Entry, done func([]state.Result)) {
	data, err := raftstore.Encode(entries)
	if err != nil {
		s.w.fail("%s cannot encode: %v", s.name, err)
		return
	}
	if index := s.appendOwn(data); index > 0 && done != nil {
		s.waiting[index] = done
	}
}

// planPass plans a pass of the leader.
func (s *Server) planPass() {
	if !s.passing {
		s.passing = true
		s.live(time.Millisecond, s.pass)
	}
}

// pass is one pass of the leader: the real decisions over its own replica.
func (s *Server) pass() {
	s.passing = false
	if s.role != leader || s.since.IsZero() {
		return
	}
	ch := s.changes
	if !s.due.IsZero() && !s.due.After(s.now()) {
		ch = state.Everything() // woken by the timer
	}
	s.changes = state.Changes{}
	in := steps.Input{Now: s.now(), IDs: api.NewIDs(s.w.rand.Uint64()), Leader: s.since, Heartbeats: maps.Clone(s.beats)}
	v := s.state.View()
	entries, wake := s.decider.Decide(v, ch, in)
	for _, e := range entries {
		s.w.checkRoutes(v, e.Command)
	}
	s.w.Passes++
	if s.due = steps.Sooner(s.due, wake); ch.All {
		s.due = wake
	}
	if !s.due.IsZero() {
		s.wake()
	}
	if len(entries) > 0 {
		s.propose(entries, nil)
	}
}

// wake plans a pass for the earliest time that a decision asked for.
func (s *Server) wake() {
	at := laterOf(s.due.Add(-s.skew), s.w.Now.Add(time.Millisecond))
	if s.dueEvent.After(s.w.Now) && !at.Before(s.dueEvent) {
		return
	}
	s.dueEvent = at
	s.live(at.Sub(s.w.Now), func() {
		if s.role == leader && !s.due.IsZero() {
			if s.due.After(s.now()) {
				s.wake()
				return
			}
			s.planPass()
		}
	})
}

// request is what a client asks: it is answered once it is committed and applied, or refused
// where the server does not lead.
func (s *Server) request(from, actor string, id api.RequestID, commands []state.Command, answer func(ok bool, results []state.Result)) {
	if !s.up {
		return
	}
	reply := func(ok bool, results []state.Result) {
		s.w.send(s.name, from, func() { answer(ok, results) })
	}
	if s.role != leader || s.since.IsZero() {
		reply(false, nil)
		return
	}
	entries := make([]state.Entry, len(commands))
	for i, c := range commands {
		entries[i] = state.Entry{At: s.now(), Actor: actor, Command: c}
		if id != "" {
			entries[i].Request = api.RequestID(fmt.Sprint(id, "-", i))
		}
	}
	s.gather(entries, func(results []state.Result) { reply(true, results) })
}

// gatherTime is how long requests wait for others: one entry takes them all, as a dispatcher with
// a thousand nodes has to do.
const gatherTime = 5 * time.Millisecond

// gathered is a request that waits for its entry.
type gathered struct {
	entries []state.Entry
	done    func([]state.Result)
}

// gather proposes entries together with what else comes in shortly.
func (s *Server) gather(entries []state.Entry, done func([]state.Result)) {
	s.gathering = append(s.gathering, gathered{entries, done})
	if len(s.gathering) > 1 {
		return
	}
	term := s.term
	s.live(gatherTime, func() {
		all := s.gathering
		s.gathering = nil
		if s.role != leader || s.term != term {
			return
		}
		var joined []state.Entry
		for _, g := range all {
			joined = append(joined, g.entries...)
		}
		s.propose(joined, func(results []state.Result) {
			for _, g := range all {
				g.done(results[:len(g.entries)])
				results = results[len(g.entries):]
			}
		})
	})
}
