package raftstore

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Timing of a failover.
const (
	// missAfter is how long nothing was heard of the leader before it is looked for: longer than two of its
	// heartbeats are apart, as a share of the election timeout.
	missAfter = 3.0 / 8
	missEvery = 50 * time.Millisecond
	// probeMax bounds a look at the leader's address and a question to another server.
	probeMax = 200 * time.Millisecond
	// heirFor is how long a server keeps its word that another one is to follow the leader.
	heirFor = time.Second
)

// Leader returns who leads, "" when nobody is known to.
func (s *Store) Leader() (id, addr string) {
	a, i := s.raft.LeaderWithID()
	return string(i), string(a)
}

// LeaderChanges sends true when this server becomes the leader and false when it stops being
// it.
func (s *Store) LeaderChanges() <-chan bool { return s.watchdog.leading }

// Probe is how a server looks at the others, apart from Raft.
type Probe interface {
	// Refuses reports whether the address refuses connections: its machine is there, and no process listens.
	Refuses(ctx context.Context, addr string) bool
	// Ask asks the server at an address whether it agrees with a claim.
	Ask(ctx context.Context, addr string, c Claim) (bool, error)
}

// Claim is what a server asks the others that wants to follow a leader whose process is gone.
type Claim struct {
	Server string `json:"server"` // who claims
	Leader string `json:"leader"` // who is gone
	Term   uint64 `json:"term"`   // of the leader
	// LastTerm and Last are of the last entry of the claimant's log.
	LastTerm uint64 `json:"last_term"`
	Last     uint64 `json:"last"`
}

// before reports whether another claim is better: a newer log, and of equal ones the greater name, so that
// of two that claim at the same time only one agrees with the other.
func (c Claim) before(o Claim) bool {
	switch {
	case c.LastTerm != o.LastTerm:
		return c.LastTerm < o.LastTerm
	case c.Last != o.Last:
		return c.Last < o.Last
	default:
		return c.Server < o.Server
	}
}

// failover ends the wait for the election timeout when the process of the leader is gone, which its machine
// tells: it refuses connections. One witness could be cut off by a firewall that answers in the machine's
// name; so the server that claims to follow begins an election only if enough others for a quorum have not
// heard of the leader either and are refused as well. Then a leader that lives and is heard by a majority
// keeps its office, whatever one follower believes.
type failover struct {
	probe Probe         // nil for a server that waits for the election timeout
	miss  time.Duration // after how long without a word a leader is looked for
	loop  sync.WaitGroup

	mu    sync.Mutex
	heir  string // whom this server agreed with last, and until when it agrees with nobody else
	until time.Time
}

// followLeader looks for a leader that is missed until the store is closed.
func (s *Store) followLeader() {
	tick := time.NewTicker(missEvery)
	defer tick.Stop()
	var lives time.Time // when the leader that is missed was seen to have a process
	for {
		select {
		case <-s.closed:
			return
		case <-tick.C:
		}
		claim, addr, missed := s.missed()
		if !missed || time.Since(lives) < s.failover.miss {
			continue
		}
		if !s.refused(addr) {
			lives = time.Now()
			continue
		}
		if !s.failover.free(claim.Server, time.Now()) || !s.agreed(claim) {
			continue
		}
		if now, _, still := s.missed(); still && now == claim {
			s.cfg.Log.Warn("the process of the leader is gone, an election begins", "leader", claim.Leader)
			s.stand()
		}
	}
}

// missed reports whether this server follows a leader of which it has heard nothing for a while, where
// that listens, and what this server would claim.
func (s *Store) missed() (c Claim, addr string, missed bool) {
	if s.raft.State() != raft.Follower || time.Since(s.raft.LastContact()) < s.failover.miss {
		return Claim{}, "", false
	}
	at, id := s.raft.LeaderWithID()
	if at == "" {
		return Claim{}, "", false
	}
	c = Claim{Server: s.cfg.ID, Leader: string(id), Term: s.raft.CurrentTerm(), Last: s.raft.LastIndex()}
	var last raft.Log
	if s.log.GetLog(c.Last, &last) == nil { // a snapshot may have taken its place: then the claim is a weak one
		c.LastTerm = last.Term
	}
	return c, string(at), true
}

func (s *Store) refused(addr string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), probeMax)
	defer cancel()
	return s.failover.probe.Refuses(ctx, addr)
}

// agreed asks the other voters, and reports whether this server and those that agree are a quorum.
func (s *Store) agreed(c Claim) bool {
	members, err := s.Members()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeMax)
	defer cancel()
	voters, votes, asked := 0, 0, 0
	answers := make(chan bool, len(members))
	for _, m := range members {
		if !m.Voter {
			continue
		}
		voters++
		switch m.ID {
		case c.Server:
			votes++
		case c.Leader:
		default:
			asked++
			go func() {
				yes, err := s.failover.probe.Ask(ctx, m.Addr, c)
				answers <- yes && err == nil
			}()
		}
	}
	for range asked {
		if <-answers {
			votes++
		}
	}
	return votes > voters/2
}

// Agrees answers another server's claim.
func (s *Store) Agrees(c Claim) bool {
	if s.failover.probe == nil {
		return false
	}
	own, addr, missed := s.missed()
	if !missed || own.Leader != c.Leader || own.Term != c.Term || c.before(own) || !s.refused(addr) {
		return false
	}
	return s.failover.promise(c.Server, time.Now())
}

// free reports whether this server has given no other one its word.
func (f *failover) free(server string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heir == server || !now.Before(f.until)
}

// promise gives this server's word, unless another one has it.
func (f *failover) promise(server string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.heir != server && now.Before(f.until) {
		return false
	}
	f.heir, f.until = server, now.Add(heirFor)
	return true
}

// stand has Raft begin an election, as a leader does that hands over its office.
func (s *Store) stand() {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, RespChan: answer}
	select {
	case s.incoming.out <- rpc:
		<-answer
	case <-s.closed:
	}
}
