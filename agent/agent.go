package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
	"slipway/runtime"
)

// Ingress is the router of the node, as the agent sees it.
type Ingress interface {
	// Apply swaps the table; when it returns, every new request uses the new one.
	Apply(ctx context.Context, t api.RouteTable) (api.RouterStatus, error)
	// Watch reports the status now and whenever it changes, until ctx ends or the router does
	// not answer.
	Watch(ctx context.Context, report func(api.RouterStatus)) error
	// Status returns what the router serves now.
	Status(ctx context.Context) (api.RouterStatus, error)
	// SetCertificate gives the router a certificate, chain and key in PEM, under a name.
	SetCertificate(ctx context.Context, name string, pem []byte) error
}

// Streams answers what servers open towards the node: exec, attach, logs, copies.
type Streams interface {
	// Serve handles one stream until it ends. The error is told to the other end.
	Serve(ctx context.Context, open *pb.Open, stream FrameStream) error
}

// FrameStream carries frames both ways.
type FrameStream interface {
	Send(*pb.Frame) error
	Recv() (*pb.Frame, error)
}

// Config is what an Agent is made of.
type Config struct {
	Dir    string // of the store and the volumes
	Server grpc.ClientConnInterface
	Node   api.Node // what the machine is; the ID is filled in from the store
	// DiskTotal is the size of the file system whose free space Node.Capacity.Disk is now; 0 takes
	// that for the capacity as it is.
	DiskTotal api.Bytes
	Runtime   runtime.Runtime
	// Networks, Logs and Observer are the node's own; see their interfaces.
	Networks networks
	Logs     logDirs
	Observer observer
	Builder  builder
	Ingress  Ingress // nil for a node without a router
	Streams  Streams
	// Names is told what DNS answers with: "service.app" to addresses, with their ports where those are
	// known. It must not change what it is told.
	Names func(map[string][]netip.AddrPort)
	// Peers is told the other nodes of the rack, and again when it fails; Servers is told where the
	// servers are. Both may be nil.
	Peers   func(ctx context.Context, peers []*pb.Peer) error
	Servers func(*pb.Servers)
	// Collect is told every process that the node still knows, at start and now and then, to
	// remove what belongs to none of them.
	Collect    func(ctx context.Context, known map[api.ProcessID]bool)
	Privileged bool
	// Metrics receives what the agent measures; nil keeps it to itself. LogBytes is the size of
	// the node's logs; nil for a node that keeps none.
	Metrics  prometheus.Registerer
	LogBytes func() float64
	Now      func() time.Time
	Log      *slog.Logger
}

// collectEvery is the interval of Config.Collect, healRetry the wait before the engine is asked
// again for exits that may have been missed.
const (
	collectEvery = 10 * time.Minute
	healRetry    = 500 * time.Millisecond
)

// Agent runs processes on one node.
type Agent struct {
	cfg    Config
	id     api.NodeID
	store  *store
	engine *containers
	now    func() time.Time
	log    *slog.Logger

	metrics *metrics

	reports     *reports
	tables      chan []byte                      // newest route table; capacity 1
	names       chan map[string][]netip.AddrPort // newest addresses for DNS; capacity 1
	peers       chan []*pb.Peer                  // newest other nodes; capacity 1
	routerMoved chan struct{}                    // capacity 1: the router's status changed
	routerLost  chan struct{}                    // capacity 1: the router serves an older table than it was given
	sets        chan api.AssignmentSet
	unused      map[string]time.Time // since when images are; only reconcile touches it
	// certified is what the router has a certificate for. Only publish touches it.
	certified map[api.AppName]certified
	spawned   sync.WaitGroup
	streams   sync.WaitGroup

	mu          sync.Mutex
	supervisors map[api.ProcessID]*supervisor
	assigned    map[api.ProcessID]api.Assignment
	states      map[api.ProcessID]api.State // as reported last
	router      *api.RouterStatus
	handed      uint64 // version of the table that the router was given last
	emptied     bool   // that table has no routes
}

// New opens the agent's store.
func New(cfg Config) (*Agent, error) {
	s, err := openStore(cfg.Dir)
	if err != nil {
		return nil, err
	}
	id, err := s.nodeID(func() api.NodeID { return cfg.Node.ID })
	if err != nil {
		s.close()
		return nil, err
	}
	cfg.Node.ID = id
	if cfg.DiskTotal > 0 {
		if cfg.Node.Capacity.Disk, err = s.disk(cfg.DiskTotal, cfg.Node.Capacity.Disk); err != nil {
			s.close()
			return nil, err
		}
	}
	a := &Agent{
		cfg: cfg, id: id, store: s, now: cfg.Now, log: cfg.Log,
		engine: &containers{
			runtime: cfg.Runtime, networks: cfg.Networks, logs: cfg.Logs, volumes: cfg.Dir + "/volumes",
			privileged: cfg.Privileged, grants: newGrants(cfg.Node.Devices), now: cfg.Now,
		},
		reports: newReports(), tables: make(chan []byte, 1), names: make(chan map[string][]netip.AddrPort, 1), peers: make(chan []*pb.Peer, 1), routerMoved: make(chan struct{}, 1), routerLost: make(chan struct{}, 1),
		sets: make(chan api.AssignmentSet, 1), certified: map[api.AppName]certified{},
		supervisors: map[api.ProcessID]*supervisor{}, assigned: map[api.ProcessID]api.Assignment{},
		states: map[api.ProcessID]api.State{}, metrics: newMetrics(),
	}
	if cfg.Metrics != nil {
		if err := a.register(cfg.Metrics); err != nil {
			s.close()
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return a, nil
}

// ID returns the identity of the node.
func (a *Agent) ID() api.NodeID { return a.id }

// Run adopts what runs, attaches to a server and serves until ctx ends. Containers and the
// router outlive it.
func (a *Agent) Run(ctx context.Context) error {
	defer a.store.close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events, err := a.cfg.Runtime.Events(ctx)
	if err != nil {
		return fmt.Errorf("follow the container engine: %w", err)
	}
	if err := a.adopt(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	w := &worker{agent: a, conn: a.cfg.Server, reports: a.reports}
	wg.Go(func() { w.run(ctx) })
	wg.Go(func() { a.follow(ctx, events) })
	wg.Go(func() { a.reconcile(ctx) })
	if a.cfg.Names != nil {
		wg.Go(func() { a.resolve(ctx) })
	}
	if a.cfg.Peers != nil {
		wg.Go(func() { a.connect(ctx) })
	}
	if a.cfg.Ingress != nil {
		wg.Go(func() { a.publish(ctx) })
		wg.Go(func() { a.listen(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	a.spawned.Wait()
	a.streams.Wait()
	return nil
}

// adopt continues with what the last agent knew, and learns from the engine what happened
// since.
func (a *Agent) adopt(ctx context.Context) error {
	records, err := a.store.processes()
	if err != nil {
		return err
	}
	list, err := a.cfg.Runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	there := map[api.ProcessID]runtime.Container{}
	for _, c := range list {
		there[c.ID] = c
		if _, known := records[c.ID]; !known {
			a.log.Warn("unknown container removed", "process", c.ID)
			if err := a.engine.Remove(ctx, &api.Assignment{Process: c.ID}); err != nil {
				return fmt.Errorf("remove unknown container: %w", err)
			}
		}
	}
	known := map[api.ProcessID]bool{}
	for _, id := range slices.Sorted(maps.Keys(records)) {
		known[id] = true
		a.adoptOne(ctx, records[id], there)
	}
	if a.cfg.Collect != nil {
		a.cfg.Collect(ctx, known)
	}
	return nil
}

// adoptOne starts the supervisor of a stored process with the facts of now.
func (a *Agent) adoptOne(ctx context.Context, r record, there map[api.ProcessID]runtime.Container) {
	l := adopted(r, there, a.now())
	if !l.Clean {
		a.engine.grants.adopt(r.Assignment.Process, r.Assignment.Grant)
	}
	if l.Status.State.Ended() {
		a.report(r.Assignment.Process, l.Status)
	} else {
		a.log.Info("process adopted", "process", r.Assignment.Process, "state", l.Status.State.String())
	}
	a.spawn(ctx, r.Assignment, l)
}

// adopted is what is known of a stored process, given the containers that the engine has.
func adopted(r record, there map[api.ProcessID]runtime.Container, now time.Time) Local {
	l := r.Local
	l.Bare = true
	c, exists := there[r.Assignment.Process]
	switch {
	case l.Status.State.Ended():
	case r.Assignment.Kind == api.KindBuild:
		l.Task = true
		l.Exit = &Exit{Code: 1, At: now, Lost: true}
	case !exists && l.Task:
		l.Exit = &Exit{Code: runtime.ExitLost, At: now, Lost: true}
	case !exists, !l.Container && !l.Task:
		// Whoever made it was killed before it was whole, or before its address was noted. It was
		// not started: that comes after the note.
		l.Container, l.Image = false, false
	case c.State == runtime.ContainerCreated:
		l.Container = true
	case c.State == runtime.ContainerRunning:
		l.Container, l.Task = true, true
		if l.Status.Started.IsZero() {
			l.Status.Started = now
		}
	default:
		if c.ExitedAt.IsZero() {
			c.ExitedAt = now
		}
		l.Container, l.Task = true, true
		l.Exit = &Exit{Code: c.ExitCode, At: c.ExitedAt, OOM: c.OOM, Lost: c.State == runtime.ContainerLost}
		l.Status.PeakMemory = max(l.Status.PeakMemory, c.PeakMemory)
	}
	return l
}

// spawn starts the supervisor of a process.
func (a *Agent) spawn(ctx context.Context, as api.Assignment, l Local) {
	s := &supervisor{
		id: as.Process, engine: a.engine, observe: a.cfg.Observer, build: a.cfg.Builder,
		save: a.store.save, report: a.report, acted: a.metrics.acted, log: a.log, now: a.now,
		wants: make(chan want, 1), exits: make(chan Exit, 1), dooms: make(chan string, 1),
	}
	a.mu.Lock()
	a.supervisors[as.Process], a.assigned[as.Process] = s, as
	a.mu.Unlock()
	a.spawned.Go(func() {
		s.run(ctx, &as, l)
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		delete(a.supervisors, as.Process)
		delete(a.assigned, as.Process)
		delete(a.states, as.Process)
		a.mu.Unlock()
		a.cfg.Logs.Ended(as.Process)
		if err := a.store.forget(as.Process); err != nil {
			a.log.Error("process not forgotten", "process", as.Process, "err", err)
		}
	})
}

// report queues a status for the servers.
func (a *Agent) report(id api.ProcessID, s api.ProcessStatus) {
	a.mu.Lock()
	a.states[id] = s.State
	a.mu.Unlock()
	a.reports.add(id, s)
}

// follow hands exits to their supervisors.
func (a *Agent) follow(ctx context.Context, events <-chan runtime.Event) {
	for e := range events {
		switch e.Kind {
		case runtime.EventExit:
			a.exited(e.ID, Exit{Code: e.ExitCode, At: e.At, OOM: e.OOM, PeakMemory: e.PeakMemory})
		case runtime.EventGap:
			a.heal(ctx)
		}
	}
}

func (a *Agent) exited(id api.ProcessID, e Exit) {
	a.mu.Lock()
	s := a.supervisors[id]
	a.mu.Unlock()
	if s != nil {
		select {
		case s.exits <- e:
		default: // it knows
		}
	}
}

// heal finds the exits that were missed.
func (a *Agent) heal(ctx context.Context) {
	list, err := a.cfg.Runtime.List(ctx)
	for tries := 0; err != nil; tries++ {
		if tries == 0 {
			a.log.Warn("containers not listed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(healRetry):
		}
		list, err = a.cfg.Runtime.List(ctx)
	}
	for _, c := range list {
		if c.State == runtime.ContainerExited || c.State == runtime.ContainerLost {
			at := c.ExitedAt
			if at.IsZero() {
				at = a.now()
			}
			a.exited(c.ID, Exit{Code: c.ExitCode, At: at, OOM: c.OOM, Lost: c.State == runtime.ContainerLost, PeakMemory: c.PeakMemory})
		}
	}
}

// assign takes the newest set.
func (a *Agent) assign(set api.AssignmentSet) { keepNewest(a.sets, set) }

// reconcile makes the supervisors match the newest set, and collects garbage now and then.
func (a *Agent) reconcile(ctx context.Context) {
	collect := time.NewTicker(collectEvery)
	defer collect.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case set := <-a.sets:
			a.apply(ctx, set)
		case <-collect.C:
			a.collectImages(ctx)
			if a.cfg.Collect != nil {
				a.cfg.Collect(ctx, a.known())
			}
		}
	}
}

// apply starts supervisors for new processes and tells all others what is wanted of them.
func (a *Agent) apply(ctx context.Context, set api.AssignmentSet) {
	named := map[api.ProcessID]bool{}
	for _, as := range set.Assignments {
		named[as.Process] = true
		a.mu.Lock()
		s := a.supervisors[as.Process]
		if s != nil {
			a.assigned[as.Process] = as
		}
		a.mu.Unlock()
		if s == nil {
			a.spawn(ctx, as, Local{Status: api.ProcessStatus{State: api.StateAssigned, Health: api.HealthUnknown}})
			continue
		}
		keepNewest(s.wants, want{assignment: &as})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, s := range a.supervisors {
		if !named[id] {
			keepNewest(s.wants, want{})
		}
	}
}

func (a *Agent) known() map[api.ProcessID]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[api.ProcessID]bool, len(a.supervisors))
	for id := range a.supervisors {
		out[id] = true
	}
	return out
}

// Assignments returns what the node is to run, by process ID.
func (a *Agent) Assignments() []api.Assignment {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := slices.Collect(maps.Values(a.assigned))
	slices.SortFunc(out, func(x, y api.Assignment) int { return cmp.Compare(x.Process, y.Process) })
	return out
}

// Condemn ends a process that servers want, for a reason that only the node knows.
func (a *Agent) Condemn(id api.ProcessID, reason string) {
	a.mu.Lock()
	s := a.supervisors[id]
	a.mu.Unlock()
	if s != nil {
		s.condemn(reason)
	}
}

// node is what the agent registers.
func (a *Agent) node() api.Node {
	n := a.cfg.Node
	n.Router = a.cfg.Ingress != nil
	return n
}

// admitted checks that the rack is the one this node belongs to.
func (a *Agent) admitted(r *pb.RegisterReply) error {
	known, err := a.store.cluster(r.ClusterId)
	if err != nil {
		return err
	}
	if known != r.ClusterId {
		return api.Errorf(api.CodeDenied, "the server belongs to rack %q (%s), this node to %s; remove %s to join another rack", r.Rack, r.ClusterId, known, a.cfg.Dir)
	}
	return nil
}

// open dials back for a stream that a server asked for, and serves it.
func (a *Agent) open(ctx context.Context, agents pb.AgentsClient, o *pb.Open) {
	a.streams.Go(func() {
		stream, err := agents.Tunnel(ctx)
		if err == nil {
			err = stream.Send(&pb.Frame{Kind: &pb.Frame_Open{Open: o}})
		}
		if err != nil {
			a.log.Warn("stream not opened", "id", o.Id, "err", err)
			return
		}
		shared := &sharedStream{FrameStream: stream}
		if err := a.cfg.Streams.Serve(stream.Context(), o, shared); err != nil && stream.Context().Err() == nil {
			f := &pb.Failure{Code: string(api.CodeOf(err)), Message: err.Error()}
			if err := stream.Send(&pb.Frame{Kind: &pb.Frame_Failure{Failure: f}}); err != nil {
				a.log.Debug("failure not told", "id", o.Id, "err", err)
			}
		}
		stream.CloseSend()
		for { // until the server has taken everything and ends its side
			if _, err := shared.Recv(); err != nil {
				return
			}
		}
	})
}

// sharedStream may be received from by several goroutines, one at a time: the reader of a
// session may still wait when the session is over.
type sharedStream struct {
	FrameStream
	mu sync.Mutex
}

// Recv returns the next frame.
func (s *sharedStream) Recv() (*pb.Frame, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.FrameStream.Recv()
}
