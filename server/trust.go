package server

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
	"slipway/raftstore/state"
	"slipway/server/auth"
)

const (
	// trustRetry is the wait after this server could not renew its certificate, or tell of it.
	trustRetry = time.Second
	// recheckLinks is how often connections of other servers are judged anew.
	recheckLinks = 10 * time.Second
	// reportMax bounds how long the answer to a machine's report may take.
	reportMax = 10 * time.Minute
)

// trust tells those who wait that machines are to hold something else.
type trust struct {
	mu      sync.Mutex
	moved   chan struct{} // closed and replaced
	issuer  string
	trusted []string
}

// see takes in what machines are to hold.
func (t *trust) see(issuer string, trusted []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.moved != nil && t.issuer == issuer && slices.Equal(t.trusted, trusted) {
		return
	}
	if t.moved != nil {
		close(t.moved)
	}
	t.moved, t.issuer, t.trusted = make(chan struct{}), issuer, trusted
}

// now returns what machines are to hold, and a channel that is closed when that changes.
func (t *trust) now() (issuer string, trusted []string, moved <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.issuer, t.trusted, t.moved
}

// keepTrust follows the replacement of the rack's authority, until ctx ends: it wakes the machines
// that wait for news, renews this server's certificate when it is not what it is to be, and tells the
// leader what this server holds.
func (s *Server) keepTrust(ctx context.Context) error {
	again := time.NewTimer(0)
	defer again.Stop()
	recheck := time.NewTicker(recheckLinks)
	defer recheck.Stop()
	// It looks at the view, whatever has changed.
	_, updates := s.store.Follow(ctx, func(state.Changes) state.Changes { return state.Changes{} })
	for {
		if s.link != nil {
			s.link.Recheck()
		}
		if err := s.followTrust(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Debug("the rack's authority not followed yet", "err", err)
			again.Reset(trustRetry)
		}
		for settled := false; !settled; {
			select {
			case <-ctx.Done():
				return nil
			case <-again.C:
				settled = true
			case <-recheck.C:
				settled = true
			case _, ok := <-updates:
				if !ok {
					return nil
				}
				settled = s.trustMoved()
			}
		}
	}
}

// trustMoved takes in the newest state, and reports whether there is something to do.
func (s *Server) trustMoved() bool {
	v := s.store.View()
	issuer, trusted := holds(v)
	s.trust.see(issuer, trusted)
	have, all := s.identity.Holds()
	return have != issuer || !slices.Equal(all, trusted)
}

// followTrust makes this server hold what it is to hold, and has the leader know.
func (s *Server) followTrust(ctx context.Context) error {
	v := s.store.View()
	if v.Rack().ClusterID == "" {
		return api.Errorf(api.CodeUnavailable, "this replica does not know its rack yet")
	}
	if s.trustMoved() {
		if err := s.renew(ctx); err != nil {
			return err
		}
	}
	issuer, trusts := s.identity.Holds()
	h := state.Holding{Machine: "server/" + s.identity.Name().ID, Issuer: issuer, Trusts: trusts}
	if known, ok := v.Holding(h.Machine); ok && known.Equal(&h) {
		return nil
	}
	if s.store.IsLeader() {
		return s.hold(ctx, h)
	}
	addr := s.leaderAddr()
	if addr == "" {
		return api.Errorf(api.CodeUnavailable, "the rack has no leader")
	}
	conn, err := s.forward.connect(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	_, err = pb.NewMachinesClient(conn).Report(ctx, &pb.ReportRequest{Issuer: issuer, Trusts: trusts})
	return pb.FromError(err)
}

// hold stores what a machine holds, if that is news.
func (s *Server) hold(ctx context.Context, h state.Holding) error {
	if known, ok := s.store.View().Holding(h.Machine); ok && known.Equal(&h) {
		return nil
	}
	res, err := s.store.Propose(ctx, state.Entry{At: time.Now(), Actor: h.Machine, Command: state.PutHolding{Holding: h}})
	if err == nil && res.Err != nil {
		return res.Err
	}
	return err
}

// Report takes in what a machine holds, and answers with what it is to hold.
func (m machines) Report(ctx context.Context, r *pb.ReportRequest) (*pb.ReportReply, error) {
	s := m.server
	if !s.store.IsLeader() {
		addr := s.leaderAddr()
		_ = grpc.SetTrailer(ctx, metadata.Pairs(pb.LeaderKey, addr)) // fails only for a call that is over
		return nil, pb.Error(api.Errorf(api.CodeNotLeader, "this server does not lead the rack, %s does", addr))
	}
	who, _ := auth.Caller(ctx)
	h := state.Holding{Machine: who.Name, Issuer: r.Issuer, Trusts: slices.Sorted(slices.Values(r.Trusts))}
	over := time.NewTimer(min(time.Duration(max(r.WaitMs, 0))*time.Millisecond, reportMax))
	defer over.Stop()
	s.trustMoved()
	err := s.hold(ctx, h)
	for waits := true; waits && api.CodeOf(err) == api.CodeNotFound; { // a node that is about to register
		select {
		case <-ctx.Done():
			return nil, pb.Error(ctx.Err())
		case <-over.C:
			waits = false
		case <-time.After(trustRetry):
			err = s.hold(ctx, h)
		}
	}
	if err != nil {
		return nil, pb.Error(err)
	}
	for {
		issuer, trusted, moved := s.trust.now()
		if issuer != h.Issuer || !slices.Equal(trusted, h.Trusts) {
			return &pb.ReportReply{Issuer: issuer, Trusts: trusted, Trust: s.authority.trust()}, nil
		}
		select {
		case <-ctx.Done():
			return nil, pb.Error(ctx.Err())
		case <-over.C:
			return &pb.ReportReply{Issuer: issuer, Trusts: trusted, Trust: s.authority.trust()}, nil
		case <-moved:
		}
	}
}

// admits reports why a machine must not connect, whatever its certificate: it was removed.
func admits(v *state.View, name machine.Name) error {
	if name.Role == machine.RoleServer && v.Dismissed(name.ID) {
		return auth.Dismissed(name.ID)
	}
	return nil
}

// leaveOld has a machine leave a connection that it made with a certificate that it has replaced, or
// is about to: the next request comes on a new one.
func (s *Server) leaveOld(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			chain := r.TLS.VerifiedChains[0]
			leaf := chain[0]
			late := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
			if issuer, _ := s.identity.Holds(); machine.Fingerprint(chain[len(chain)-1]) != issuer || time.Now().After(late) {
				w.Header().Set("Connection", "close")
			}
		}
		next.ServeHTTP(w, r)
	})
}
