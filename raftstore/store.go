package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/raftstore/boltlog"
	"slipway/raftstore/state"
)

// Limits of a proposal.
const (
	// entryMax is the largest Raft entry. Larger ones would hold up heartbeats.
	entryMax = 512 << 10
	// groupMax is how many waiting proposals share one Raft entry, and flightMax how many of those
	// are under way: what comes meanwhile shares the next, and so costs each replica less.
	groupMax  = 1024
	flightMax = 2
	// queueMax is how many proposals may wait; the next one waits outside.
	queueMax = 4096
	// snapshotsKept is how many snapshots stay on disk.
	snapshotsKept = 2
	applyTimeout  = 30 * time.Second
)

// Config is what a Store is made of.
type Config struct {
	Dir string // the data directory of this server
	ID  string // of this server, for its whole life
	// Addr is where the other servers reach this one; with a nil Transport it is listened on.
	Addr      string
	Transport raft.Transport
	// Bootstrap makes a new cluster with this server as its only voter. It is an error on a
	// directory that has a state already.
	Bootstrap bool
	Log       *slog.Logger
	// Committed is told how long each entry took from the proposal until it was applied; nil
	// tells nobody.
	Committed func(took time.Duration)
	// Tune adjusts the timing, for tests.
	Tune func(*raft.Config)
	// Probe looks at the other servers; with nil, a leader whose process is gone is missed as late as one
	// that cannot be reached.
	Probe Probe
	// Disk is what the log is written to; nil is that of the machine.
	Disk boltlog.Disk
	// Loop tells when the leader's loop passed last, and whether changes wait for it; with nil
	// nobody watches that loop. It must not block.
	Loop func() (passed time.Time, waits bool)
	// Died is told, once, that the replica cannot go on, mostly for its disk. The program is to
	// end with an error at once, without Close, which would wait for the disk; with nil it ends with
	// a panic.
	Died func(error)

	limits  limits   // of the watchdog; zero for the defaults
	dialect *dialect // nil for that of this program
}

// Store is one server's replica. Its methods are safe for concurrent use.
type Store struct {
	cfg       Config
	raft      *raft.Raft
	log       *boltlog.Log
	proposals chan proposal
	closed    chan struct{}
	grouped   chan struct{} // closed when the grouping goroutine has ended
	closeOnce sync.Once
	witness   *witness
	barrier   atomic.Uint64 // the term in which a barrier was passed
	watchdog  *watchdog
	machine   *machine
	incoming  *receiver
	failover  failover

	hub hub
}

// proposal waits for its results.
type proposal struct {
	encoded []byte
	count   int         // of its entries
	done    chan answer // capacity 1
}

type answer struct {
	results []state.Result
	err     error
}

// Open opens the replica and starts it.
func Open(cfg Config) (*Store, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if cfg.Disk == nil {
		cfg.Disk = boltlog.OSDisk{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.dialect == nil {
		cfg.dialect = present
	}
	log, err := boltlog.OpenOn(filepath.Join(cfg.Dir, "raft.db"), cfg.Disk)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, log: log, proposals: make(chan proposal, queueMax), closed: make(chan struct{}), grouped: make(chan struct{}), watchdog: newWatchdog()}
	if err := s.start(); err != nil {
		log.Close()
		return nil, err
	}
	go s.group()
	go s.watch()
	if cfg.Probe != nil {
		s.failover.loop.Go(s.followLeader)
	}
	return s, nil
}

// start sets Raft up.
func (s *Store) start() error {
	if err := s.checkFormat(); err != nil {
		return err
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(s.cfg.ID)
	conf.Logger = raftLogger(s.cfg.Log)
	conf.MaxAppendEntries = 512
	conf.SnapshotThreshold = 8192
	conf.TrailingLogs = 10240
	conf.NoLegacyTelemetry = true
	if s.cfg.Tune != nil {
		s.cfg.Tune(conf)
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(s.cfg.Dir, snapshotsKept, conf.Logger)
	if err != nil {
		return fmt.Errorf("open snapshots: %w", err)
	}
	snaps := installs{files, s.log}
	transport := s.cfg.Transport
	if transport == nil {
		t, err := raft.NewTCPTransportWithLogger(s.cfg.Addr, nil, 3, 10*time.Second, conf.Logger)
		if err != nil {
			return fmt.Errorf("listen for raft on %s: %w", s.cfg.Addr, err)
		}
		transport = t
	}
	transport = s.watchdog.gate.around(transport)
	s.witness = newWitness(transport)
	s.incoming = newReceiver(s.witness, s.log)
	s.failover.probe, s.failover.miss = s.cfg.Probe, time.Duration(missAfter*float64(conf.HeartbeatTimeout))
	known, err := raft.HasExistingState(s.log, s.log, snaps)
	if err != nil {
		return fmt.Errorf("read raft state: %w", err)
	}
	if s.cfg.Bootstrap {
		if known {
			return api.Errorf(api.CodeConflict, "%s holds the state of a rack already; start without --bootstrap", s.cfg.Dir)
		}
		if epoch, err := Epoch(s.cfg.Dir); err != nil {
			return err
		} else if epoch == "" {
			if err := SetEpoch(s.cfg.Dir, NewEpoch("")); err != nil {
				return err
			}
		}
		voter := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: transport.LocalAddr()}}}
		if err := raft.BootstrapCluster(conf, s.log, s.log, snaps, s.incoming, voter); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	m := &machine{state: state.New(), publish: s.hub.publish, restored: s.hub.restored, raised: s.keepFormat, dialect: s.cfg.dialect}
	s.machine = m
	s.hub.publish(m.state.View(), nil)
	s.raft, err = raft.NewRaft(conf, m, s.log, s.log, snaps, s.incoming)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	go s.incoming.run(s.raft, s.closed)
	return nil
}

// HasState reports whether a data directory holds the state of a rack.
func HasState(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "raft.db"))
	return err == nil
}

// Close stops the replica and closes its files.
func (s *Store) Close() error {
	var err error
	s.closeOnce.Do(func() {
		close(s.closed)
		<-s.grouped
		<-s.watchdog.ended
		s.failover.loop.Wait()
		down := s.watchdog.shutdown
		if down == nil {
			down = s.raft.Shutdown()
		}
		err = down.Error()
		s.hub.close()
		if again := s.log.Close(); err == nil {
			err = again
		}
	})
	return err
}

// Propose applies one entry on a quorum. The error says whether it was proposed at all; a
// command that the state rejects comes back in Result.Err.
func (s *Store) Propose(ctx context.Context, e state.Entry) (state.Result, error) {
	if s.log.Low() && grows(e.Command) {
		return state.Result{}, s.full(syscall.ENOSPC)
	}
	results, err := s.ProposeBatch(ctx, []state.Entry{e})
	if err != nil {
		return state.Result{}, err
	}
	return results[0], nil
}

// ProposeBatch applies entries in order, as one.
func (s *Store) ProposeBatch(ctx context.Context, entries []state.Entry) ([]state.Result, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	b, err := s.encode(entries)
	if err != nil {
		return nil, err
	}
	if len(b) > entryMax {
		return nil, tooLarge(b)
	}
	p := proposal{encoded: b, count: len(entries), done: make(chan answer, 1)}
	if err := s.submit(ctx, p); err != nil {
		return nil, err
	}
	return s.answer(ctx, p)
}

// ProposeEach applies entries in order, in as few Raft entries as they fit in: others may apply
// theirs in between. After an error some may have been applied.
func (s *Store) ProposeEach(ctx context.Context, entries []state.Entry) ([]state.Result, error) {
	var waiting []proposal
	var next proposal
	flush := func() error {
		if next.count == 0 {
			return nil
		}
		next.done = make(chan answer, 1)
		waiting = append(waiting, next)
		err := s.submit(ctx, next)
		next = proposal{}
		return err
	}
	for _, e := range entries {
		b, err := s.encode([]state.Entry{e})
		if err == nil && len(b) > entryMax {
			err = tooLarge(b)
		}
		if err == nil && len(next.encoded)+len(b) > entryMax {
			err = flush()
		}
		if err != nil {
			return nil, err
		}
		next.encoded, next.count = append(next.encoded, b...), next.count+1
	}
	if err := flush(); err != nil {
		return nil, err
	}
	results := make([]state.Result, 0, len(entries))
	for _, p := range waiting {
		r, err := s.answer(ctx, p)
		if err != nil {
			return results, err
		}
		results = append(results, r...)
	}
	return results, nil
}

func tooLarge(encoded []byte) error {
	return api.Errorf(api.CodeExhausted, "the change is %s large, the limit is %s; make it smaller", api.Bytes(len(encoded)), api.Bytes(entryMax))
}

// submit queues a proposal.
func (s *Store) submit(ctx context.Context, p proposal) error {
	select {
	case s.proposals <- p:
		return nil
	case <-ctx.Done():
		return api.Errorf(api.CodeUnavailable, "the change was not proposed: %w", context.Cause(ctx))
	case <-s.closed:
		return errClosed()
	}
}

// answer waits for what became of a proposal.
func (s *Store) answer(ctx context.Context, p proposal) ([]state.Result, error) {
	select {
	case a := <-p.done:
		return a.results, a.err
	case <-ctx.Done():
		return nil, api.Errorf(api.CodeUnavailable, "the change may have been applied; repeat it with the same request ID: %w", context.Cause(ctx))
	case <-s.grouped:
		return nil, errClosed()
	}
}

func errClosed() error { return api.Errorf(api.CodeUnavailable, "this server is stopping") }

// group hands proposals to Raft, joining those that wait into one entry.
func (s *Store) group() {
	defer close(s.grouped)
	var carry *proposal
	flights := make(chan struct{}, flightMax) // holds one for each entry that is under way
	for {
		select {
		case flights <- struct{}{}:
		case <-s.closed:
			return
		}
		var first proposal
		if carry != nil {
			first, carry = *carry, nil
		} else {
			select {
			case first = <-s.proposals:
			case <-s.closed:
				return
			}
		}
		batch, size := []proposal{first}, len(first.encoded)
	join:
		for len(batch) < groupMax {
			select {
			case p := <-s.proposals:
				if size+len(p.encoded) > entryMax {
					carry = &p
					break join
				}
				batch, size = append(batch, p), size+len(p.encoded)
			default:
				break join
			}
		}
		s.propose(batch, func() { <-flights })
	}
}

// propose gives one entry to Raft; a goroutine waits for it and calls landed, so that the next can
// follow. The encodings of batches one after the other are the encoding of one batch.
func (s *Store) propose(batch []proposal, landed func()) {
	var b []byte
	for _, p := range batch {
		b = append(b, p.encoded...)
	}
	began := time.Now()
	future := s.raft.Apply(b, applyTimeout)
	go func() {
		err := future.Error()
		landed()
		if err != nil {
			answerAll(batch, nil, s.explain(err))
			return
		}
		if s.cfg.Committed != nil {
			s.cfg.Committed(time.Since(began))
		}
		if err, failed := future.Response().(error); failed {
			answerAll(batch, nil, stopped(err))
			return
		}
		answerAll(batch, future.Response().([]state.Result), nil)
	}()
}

func answerAll(batch []proposal, results []state.Result, err error) {
	for _, p := range batch {
		if err != nil {
			p.done <- answer{err: err}
			continue
		}
		n := p.count
		p.done <- answer{results: results[:n:n]}
		results = results[n:]
	}
}

// explain turns an error of Raft into ours.
func (s *Store) explain(err error) error {
	if errors.Is(err, raft.ErrNotLeader) {
		_, addr := s.Leader()
		if addr == "" {
			addr = "not known"
		}
		return api.Errorf(api.CodeNotLeader, "this server does not lead the rack; the leader is %s: %w", addr, err)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return s.full(err)
	}
	return api.Errorf(api.CodeUnavailable, "the change may have been applied; repeat it with the same request ID: %w", err)
}

// full is the error of a change for which the disk has no room.
func (s *Store) full(err error) error {
	return api.Errorf(api.CodeExhausted, "the disk of this server is full and the change was not stored; free space for %s and try again: %w", s.cfg.Dir, err)
}

// grows reports whether a command is refused while the log lives on its reserve: what adds to
// the rack is, what stops, deletes or goes back is not.
func grows(c state.Command) bool {
	switch c.(type) {
	case state.CreateApp, state.CreateBuild, state.CreateRelease:
		return true
	}
	return false
}

// IsLeader reports whether this server leads, as far as it knows.
func (s *Store) IsLeader() bool { return s.raft.State() == raft.Leader }

// Barrier returns when everything that was committed before the call is applied here.
func (s *Store) Barrier(ctx context.Context) error {
	if err := await(ctx, s.raft.Barrier(applyTimeout)); err != nil {
		return s.explain(err)
	}
	return nil
}

// View returns the newest state applied here.
func (s *Store) View() *state.View { return s.hub.view() }

// Next returns a view with an index above after, as soon as there is one.
func (s *Store) Next(ctx context.Context, after uint64) (*state.View, error) {
	return s.hub.next(ctx, after)
}

// Subscribe follows the state from the returned view on, without a gap, until ctx ends.
func (s *Store) Subscribe(ctx context.Context) (*state.View, <-chan Update) {
	return s.hub.subscribe(ctx, nil)
}

// Follow is Subscribe for who needs no events, and of the changes only those that keep returns. What
// nobody looks at costs nothing: an entry may change a thousand processes.
func (s *Store) Follow(ctx context.Context, keep func(state.Changes) state.Changes) (*state.View, <-chan Update) {
	return s.hub.subscribe(ctx, keep)
}

// Servers returns how many voters the rack has.
func (s *Store) Servers() int {
	f := s.raft.GetConfiguration()
	if f.Error() != nil {
		return 0
	}
	return len(f.Configuration().Servers)
}

// Snapshot writes a snapshot now.
func (s *Store) Snapshot() error {
	if err := s.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// raftLogger gives Raft's own words to slog, warnings and errors only.
func raftLogger(l *slog.Logger) hclog.Logger {
	if l == nil {
		return hclog.New(&hclog.LoggerOptions{Output: io.Discard})
	}
	return hclog.New(&hclog.LoggerOptions{
		Name: "raft", Level: hclog.Warn, Output: lineWriter{l}, DisableTime: true,
	})
}

type lineWriter struct{ log *slog.Logger }

// Write logs one line.
func (w lineWriter) Write(p []byte) (int, error) {
	w.log.Warn("raft", "line", string(p[:max(0, len(p)-1)]))
	return len(p), nil
}
