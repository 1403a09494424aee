package dispatch

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"slipway/api/pb"
	"slipway/raftstore/state"
)

// slowStore takes its time for every proposal.
type slowStore struct {
	Store
	takes    time.Duration
	proposed atomic.Int64
	fails    error
}

func (s *slowStore) Propose(ctx context.Context, e state.Entry) (state.Result, error) {
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return state.Result{}, context.Cause(ctx)
	}
	s.proposed.Add(1)
	return state.Result{}, s.fails
}

// spoken is the stream of an agent that says what comes over a channel.
type spoken struct {
	pb.Agents_AttachServer
	says         chan *pb.AgentMessage
	acknowledged []uint64
}

func (s *spoken) Recv() (*pb.AgentMessage, error) {
	m, ok := <-s.says
	if !ok {
		return nil, io.EOF
	}
	return m, nil
}

func (s *spoken) Send(m *pb.ServerMessage) error {
	s.acknowledged = append(s.acknowledged, m.GetAcknowledged())
	return nil
}

var (
	beat    = &pb.AgentMessage{Kind: &pb.AgentMessage_Heartbeat{}}
	reports = func(seq uint64) *pb.AgentMessage {
		return &pb.AgentMessage{Kind: &pb.AgentMessage_Statuses{Statuses: &pb.Statuses{Seq: seq}}}
	}
)

// TestANodeIsHeardWhileItsReportIsStored: the log may be slow, which is not the fault of a node.
func TestANodeIsHeardWhileItsReportIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{takes: time.Minute}
		s := New(Config{Store: store, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		agent := &spoken{says: make(chan *pb.AgentMessage)}
		c := &session{node: "n1", stream: agent, inbox: make(chan *pb.AgentMessage, inboxMax)}
		ended := make(chan error)
		go func() { ended <- s.receive(t.Context(), c, func(err error) { t.Error(err) }) }()
		agent.says <- reports(1)
		agent.says <- reports(2)
		time.Sleep(30 * time.Second) // virtual
		agent.says <- beat
		synctest.Wait()
		if at := s.Heartbeats()["n1"]; !at.Equal(time.Now()) || store.proposed.Load() != 0 {
			t.Errorf("it was heard of %s ago, %d reports are stored", time.Since(at), store.proposed.Load())
		}
		time.Sleep(2 * time.Minute) // virtual
		synctest.Wait()
		if len(agent.acknowledged) != 2 || agent.acknowledged[0] != 1 || agent.acknowledged[1] != 2 {
			t.Errorf("acknowledged are %d", agent.acknowledged)
		}
		close(agent.says)
		if err := <-ended; err != io.EOF {
			t.Error(err)
		}
	})
}

// TestAReportThatIsNotStoredEndsTheSession, so that the agent repeats it to whoever leads then.
func TestAReportThatIsNotStoredEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Store: &slowStore{fails: errors.New("not the leader")}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		agent := &spoken{says: make(chan *pb.AgentMessage)}
		c := &session{node: "n1", stream: agent, inbox: make(chan *pb.AgentMessage, inboxMax)}
		ctx, cancel := context.WithCancelCause(t.Context())
		go s.receive(ctx, c, cancel)
		agent.says <- reports(1)
		<-ctx.Done()
		if err := context.Cause(ctx); err.Error() != "not the leader" || len(agent.acknowledged) > 0 {
			t.Errorf("it ends with %v, acknowledged are %d", err, agent.acknowledged)
		}
		close(agent.says)
	})
}
