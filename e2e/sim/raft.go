package sim

import (
	"slices"
	"time"
)

// The times of the model. They are longer than those of real servers: an idle cluster costs an
// event for each heartbeat.
const (
	beatEvery    = 500 * time.Millisecond
	electAfter   = 1500 * time.Millisecond // at least; twice that at most
	snapshotSize = 400                     // entries between two snapshots
	syncTime     = 3 * time.Millisecond
)

// role is what a server is in its term.
type role int

const (
	follower role = iota
	candidate
	leader
)

// last returns the index and the term of the last entry.
func (s *Server) last() (index, term uint64) {
	if n := len(s.log); n > 0 {
		return s.log[n-1].index, s.log[n-1].term
	}
	return s.disk.snapshot.index, s.disk.snapshot.term
}

// termAt returns the term of an entry; false if the server does not have it.
func (s *Server) termAt(index uint64) (uint64, bool) {
	snap := s.disk.snapshot
	switch {
	case index == snap.index:
		return snap.term, true
	case index < snap.index || index > snap.index+uint64(len(s.log)):
		return 0, false
	}
	return s.log[index-snap.index-1].term, true
}

// from returns the entries from an index on.
func (s *Server) from(index uint64) []entry {
	at := index - s.disk.snapshot.index - 1
	if at >= uint64(len(s.log)) {
		return nil
	}
	return slices.Clone(s.log[at:])
}

// persist keeps term and vote; nothing that depends on them is said before.
func (s *Server) persist() bool {
	if s.disk.Full {
		return false
	}
	s.disk.term, s.disk.vote = s.term, s.vote
	return true
}

// observe steps down before a newer term.
func (s *Server) observe(term uint64) {
	if term > s.term {
		s.term, s.vote = term, ""
		s.follow("")
	}
}

func (s *Server) follow(of string) {
	if s.role == leader {
		s.w.note("%s leads no more in term %d", s.name, s.term)
		s.stopLeading()
	}
	s.role, s.leader = follower, of
	s.resetElection()
}

// resetElection plans the next attempt to lead.
func (s *Server) resetElection() {
	s.electDue = s.w.Now.Add(electAfter + time.Duration(s.w.rand.Uint64()%uint64(electAfter)))
	if s.electing {
		return
	}
	s.electing = true
	s.live(s.electDue.Sub(s.w.Now), s.electionTimer)
}

// electionTimer is one chain of events for each life of a server.
func (s *Server) electionTimer() {
	if wait := s.electDue.Sub(s.w.Now); wait > 0 {
		s.live(wait, s.electionTimer)
		return
	}
	s.electing = false
	if s.role != leader {
		s.campaign()
	}
	s.resetElection()
}

// campaign asks for votes in a new term.
func (s *Server) campaign() {
	s.role, s.term, s.vote, s.leader = candidate, s.term+1, s.name, ""
	s.votes = map[string]bool{}
	term := s.term
	if !s.persist() {
		return
	}
	s.voted(term, s.name)
	index, lastTerm := s.last()
	for _, o := range s.w.servers {
		if o != s {
			s.w.send(s.name, o.name, func() { o.askedToVote(s, term, index, lastTerm) })
		}
	}
}

// askedToVote votes for the first candidate of a term whose log is not behind.
func (s *Server) askedToVote(c *Server, term, index, lastTerm uint64) {
	if !s.up {
		return
	}
	s.observe(term)
	mine, myTerm := s.last()
	behind := lastTerm < myTerm || lastTerm == myTerm && index < mine
	if term < s.term || s.vote != "" && s.vote != c.name || behind {
		return
	}
	s.vote = c.name
	if !s.persist() {
		return
	}
	s.resetElection()
	s.w.send(s.name, c.name, func() { c.gotVote(term, s.name) })
}

func (s *Server) gotVote(term uint64, from string) {
	if s.up && s.role == candidate && s.term == term {
		s.voted(term, from)
	}
}

func (s *Server) voted(term uint64, from string) {
	s.votes[from] = true
	if len(s.votes)*2 <= len(s.w.servers) {
		return
	}
	if other, led := s.w.leaders[term]; led && other != s.name {
		s.w.fail("term %d has two leaders, %s and %s", term, other, s.name)
	}
	s.w.leaders[term] = s.name
	s.w.note("%s leads in term %d", s.name, term)
	s.role, s.leader = leader, s.name
	index, _ := s.last()
	s.next, s.match, s.heard = map[string]uint64{}, map[string]uint64{}, map[string]time.Time{}
	for _, o := range s.w.servers {
		s.next[o.name], s.heard[o.name] = index+1, s.w.Now
	}
	s.beginLeading()
	s.beat(term)
}

// beat replicates and tells that the leader lives. One that does not reach a majority for as long
// as the others wait for it gives up.
func (s *Server) beat(term uint64) {
	if s.role != leader || s.term != term {
		return
	}
	reached := 1
	for _, o := range s.w.servers {
		if o != s {
			if s.w.Now.Sub(s.heard[o.name]) < electAfter {
				reached++
			}
			s.replicate(o)
		}
	}
	if reached*2 <= len(s.w.servers) {
		s.follow("")
		return
	}
	s.live(beatEvery, func() { s.beat(term) })
}

// replicate sends a follower what it lacks.
func (s *Server) replicate(o *Server) {
	next := s.next[o.name]
	term, commit := s.term, s.commit
	if next <= s.disk.snapshot.index {
		snap := s.disk.snapshot
		s.w.send(s.name, o.name, func() { o.install(s, term, snap) })
		return
	}
	prev := next - 1
	prevTerm, _ := s.termAt(prev)
	entries := s.from(next)
	s.w.send(s.name, o.name, func() { o.append(s, term, prev, prevTerm, entries, commit) })
}

// append takes entries of the leader into the log, answers once they are on disk, and says no
// when it lacks the one before.
func (s *Server) append(l *Server, term, prev, prevTerm uint64, entries []entry, commit uint64) {
	if !s.up {
		return
	}
	s.observe(term)
	if term < s.term {
		now := s.term
		s.w.send(s.name, l.name, func() {
			if l.up {
				l.observe(now)
			}
		})
		return
	}
	if s.role != follower || s.leader != l.name {
		s.follow(l.name)
	}
	s.resetElection()
	snap := s.disk.snapshot.index
	if have, ok := s.termAt(prev); prev >= snap && (!ok || have != prevTerm) {
		last, _ := s.last()
		hint := min(prev, last+1)
		s.w.send(s.name, l.name, func() { l.refused(s, term, hint) })
		return
	}
	for i, e := range entries {
		if e.index <= snap {
			continue
		}
		if have, ok := s.termAt(e.index); ok && have == e.term {
			continue
		}
		s.truncate(e.index)
		if !s.write(entries[i:]) {
			return
		}
		break
	}
	known := prev + uint64(len(entries))
	s.sync(func() {
		if s.term != term {
			return
		}
		s.advance(min(commit, known))
		s.w.send(s.name, l.name, func() { l.accepted(s, term, known) })
	})
}

// truncate forgets entries that another leader has overruled.
func (s *Server) truncate(index uint64) {
	keep := index - s.disk.snapshot.index - 1
	if keep < uint64(len(s.log)) {
		if index <= s.commit {
			s.w.fail("%s forgets entry %d, which is committed", s.name, index)
		}
		s.log = s.log[:keep]
		s.disk.records = s.disk.records[:min(len(s.disk.records), int(keep))]
		s.synced = min(s.synced, int(keep))
	}
}

// write appends entries to the log in memory; sync brings them to the disk.
func (s *Server) write(entries []entry) bool {
	if s.disk.Full {
		return false
	}
	s.log = append(s.log, entries...)
	return true
}

// sync calls then once everything written so far is on disk.
func (s *Server) sync(then func()) {
	s.live(syncTime, func() {
		if s.disk.Full && s.synced < len(s.log) {
			return
		}
		for _, e := range s.log[min(s.synced, len(s.log)):] {
			s.disk.records = append(s.disk.records, e.encode())
		}
		s.synced = len(s.log)
		then()
	})
}

func (s *Server) refused(o *Server, term, hint uint64) {
	if s.up && s.role == leader && s.term == term {
		s.heard[o.name] = s.w.Now
		s.next[o.name] = max(1, min(s.next[o.name], hint))
		s.replicate(o)
	}
}

func (s *Server) accepted(o *Server, term, known uint64) {
	if !s.up || s.role != leader || s.term != term {
		return
	}
	s.heard[o.name] = s.w.Now
	s.match[o.name] = max(s.match[o.name], known)
	s.next[o.name] = max(s.next[o.name], known+1)
	s.commitMajority()
}

// commitMajority commits what a majority has on disk, if it is of this term.
func (s *Server) commitMajority() {
	s.match[s.name] = s.disk.snapshot.index + uint64(s.synced)
	var have []uint64
	for _, o := range s.w.servers {
		have = append(have, s.match[o.name])
	}
	slices.Sort(have)
	index := have[(len(have)-1)/2]
	if term, ok := s.termAt(index); ok && term == s.term && index > s.commit {
		s.advance(index)
	}
}

// install replaces state and log by a snapshot of the leader.
func (s *Server) install(l *Server, term uint64, snap snapshot) {
	if !s.up {
		return
	}
	s.observe(term)
	if term < s.term || s.disk.Full {
		return
	}
	s.resetElection()
	if snap.index > s.applied {
		s.disk.snapshot, s.disk.records, s.log, s.synced = snap, nil, nil, 0
		s.restore()
	}
	known := s.applied
	s.w.send(s.name, l.name, func() { l.accepted(s, term, known) })
}
