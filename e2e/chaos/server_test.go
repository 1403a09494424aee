package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"slipway/raftstore"
	"slipway/raftstore/boltlog"
	"slipway/raftstore/state"
)

// server is one server of a rack: a directory, and a replica while it runs.
type server struct {
	net  *network
	id   string
	addr raft.ServerAddress
	root string
	tune func(*raft.Config)
	// began is told of each life, before anything can happen in it.
	began func(*life)

	mu    sync.Mutex
	lives int
	now   *life // nil while it is down
}

// life is a server from one start to its end.
type life struct {
	end   *end
	store *raftstore.Store
}

func newServer(n *network, id, root string, tune func(*raft.Config)) *server {
	return &server{net: n, id: id, addr: raft.ServerAddress(id + ".test:1"), root: root, tune: tune, began: func(*life) {}}
}

// dir is the directory of the present life, or of the next one.
func (s *server) dir() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirOf(s.lives)
}

func (s *server) dirOf(life int) string {
	return filepath.Join(s.root, fmt.Sprintf("%s-%d", s.id, life))
}

// found writes the first entry of a rack into the empty directory of one of its servers: who
// the servers are.
func (s *server) found(all raft.Configuration) error {
	if err := os.MkdirAll(s.dir(), 0o700); err != nil {
		return err
	}
	log, err := boltlog.Open(filepath.Join(s.dir(), "raft.db"))
	if err != nil {
		return err
	}
	defer log.Close()
	quiet := hclog.NewNullLogger()
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(s.dir(), 2, quiet)
	if err != nil {
		return err
	}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = raft.ServerID(s.id), quiet
	return raft.BootstrapCluster(conf, log, log, snapshots, newEnd(s.net, s.addr), all)
}

// start begins a life with what is in the directory. Nobody else may start, stop or kill the
// server meanwhile.
func (s *server) start() error {
	e := newEnd(s.net, s.addr)
	store, err := raftstore.Open(raftstore.Config{Dir: s.dir(), ID: s.id, Addr: string(s.addr), Transport: e, Probe: e, Tune: s.tune})
	if err != nil {
		return fmt.Errorf("start %s: %w; it has\n%s", s.id, err, files(s.dir()))
	}
	e.agrees = store.Agrees
	l := &life{end: e, store: store}
	s.began(l)
	s.mu.Lock()
	s.now = l
	s.mu.Unlock()
	s.net.attach(e)
	return nil
}

// end takes the present life from everybody who looks for it.
func (s *server) end() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.now
	s.now = nil
	return l
}

// stop ends a life as a stop of the program does.
func (s *server) stop() error {
	l := s.end()
	if l == nil {
		return nil
	}
	err := l.store.Close()
	l.end.Close()
	return err
}

// kill ends a life as SIGKILL or a power cut does: the next one begins with what is on the disk
// at this moment. With torn, the disk was writing.
func (s *server) kill(torn *rand.Rand) error {
	old := s.dir()
	l := s.end()
	if l == nil {
		return nil
	}
	l.end.Close() // nobody hears from it any more; what it does now did not happen
	s.mu.Lock()
	s.lives++
	s.mu.Unlock()
	if err := image(old, s.dir()); err != nil {
		return fmt.Errorf("kill %s: %w", s.id, err)
	}
	if torn != nil {
		if err := tear(s.dir(), torn); err != nil {
			return fmt.Errorf("tear the log of %s: %w", s.id, err)
		}
	}
	if err := l.store.Close(); err != nil {
		return fmt.Errorf("end %s: %w", s.id, err)
	}
	return os.RemoveAll(old)
}

// pause keeps everything from leaving and entering, until resume.
func (s *server) pause()  { s.gate((*gate).close) }
func (s *server) resume() { s.gate((*gate).reopen) }

func (s *server) gate(move func(*gate)) {
	if l := s.life(); l != nil {
		move(&l.end.gate)
	}
}

// life returns the present life, nil while there is none.
func (s *server) life() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// leads reports whether the server believes to be the leader.
func (s *server) leads() bool {
	l := s.life()
	return l != nil && l.store.IsLeader()
}

// visit is a call of a client: over the network, into the replica, and back with what the call
// delivers. An error of the network says nothing about what happened at the far end.
func (s *server) visit(ctx context.Context, call func(context.Context, *raftstore.Store) (deliver func(), err error)) error {
	if _, err := s.net.carry(ctx, message{from: clients, to: s.addr}); err != nil {
		return err
	}
	l := s.life()
	if l == nil {
		return errRefused
	}
	if err := l.end.gate.pass(ctx); err != nil {
		return err
	}
	inside, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.end.ctx, func() { cancel(errReset) })()
	type answer struct {
		deliver func()
		err     error
	}
	answers := make(chan answer, 1)
	go func() { // it ends with the life at the latest
		deliver, err := call(inside, l.store)
		answers <- answer{deliver, err}
	}()
	var a answer
	select {
	case a = <-answers:
	case <-inside.Done():
		return context.Cause(inside)
	}
	if err := l.end.gate.pass(ctx); err != nil {
		return err
	}
	if l.end.ctx.Err() != nil { // what a dead server says is not heard
		return errReset
	}
	if _, err := s.net.carry(ctx, message{from: s.addr, to: clients}); err != nil {
		return err
	}
	if a.deliver != nil {
		a.deliver()
	}
	return a.err
}

// replica is how clients reach the state of one server.
type replica interface {
	write(ctx context.Context, e state.Entry) (state.Result, error)
	read(ctx context.Context) (*state.View, error)
}

func (s *server) write(ctx context.Context, e state.Entry) (state.Result, error) {
	e.At = time.Now()
	var out state.Result
	err := s.visit(ctx, func(ctx context.Context, store *raftstore.Store) (func(), error) {
		r, err := store.Propose(ctx, e)
		return func() { out = r }, err
	})
	return out, err
}

func (s *server) read(ctx context.Context) (*state.View, error) {
	var out *state.View
	err := s.visit(ctx, func(ctx context.Context, store *raftstore.Store) (func(), error) {
		v, err := store.Linearizable(ctx)
		return func() { out = v }, err
	})
	return out, err
}
