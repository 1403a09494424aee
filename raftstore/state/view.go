package state

import (
	"encoding/binary"
	"iter"
	"strings"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"slipway/api"
)

// tree is a persistent map in key order; a copy of the struct that holds it is a snapshot.
type tree[V any] = *iradix.Tree[V]

// View is one immutable state of the rack. Reading it never blocks and costs no copy; what its
// methods return is shared and must not be modified. Every iteration is in key order.
type View struct {
	index         uint64
	routesVersion uint64
	rack          Rack

	apps        tree[*api.App]
	builds      tree[*api.Build]
	releases    tree[*api.Release]
	deployments tree[*api.Deployment]
	services    tree[*api.Service]
	processes   tree[*api.Process]
	nodes       tree[*api.Node]
	pools       tree[*api.Pool]
	routes      tree[*appRoutes]
	tokens      tree[*Token]
	requests    tree[*outcome]

	// Indexes hold the primary key as value and are derived: a snapshot does not carry them.
	buildsOf      tree[string]     // app NUL inverted time, id
	buildsOpen    tree[string]     // id
	releasesOf    tree[string]     // app NUL inverted number
	deploymentsOf tree[string]     // app NUL inverted time, id
	deploysOpen   tree[string]     // id
	processesOf   tree[string]     // app/service NUL id
	liveOn        tree[string]     // node NUL id
	live          tree[string]     // id
	pending       tree[string]     // id
	used          tree[*api.Usage] // node
	tokenByHash   tree[string]     // hash
}

// appRoutes is the part of the route table that belongs to one app.
type appRoutes struct {
	Changed uint64      `json:"changed"` // version of the table in which it changed last
	Routes  []api.Route `json:"routes,omitempty"`
}

// outcome is what a write with a request ID came to.
type outcome struct {
	At    time.Time  `json:"at"`
	Err   *api.Error `json:"err,omitempty"`
	Value string     `json:"value,omitempty"`
}

func newView() View {
	return View{
		apps: iradix.New[*api.App](), builds: iradix.New[*api.Build](), releases: iradix.New[*api.Release](),
		deployments: iradix.New[*api.Deployment](), services: iradix.New[*api.Service](),
		processes: iradix.New[*api.Process](), nodes: iradix.New[*api.Node](), pools: iradix.New[*api.Pool](), routes: iradix.New[*appRoutes](),
		tokens: iradix.New[*Token](), requests: iradix.New[*outcome](),
		buildsOf: iradix.New[string](), buildsOpen: iradix.New[string](), releasesOf: iradix.New[string](),
		deploymentsOf: iradix.New[string](), deploysOpen: iradix.New[string](), processesOf: iradix.New[string](),
		liveOn: iradix.New[string](), live: iradix.New[string](), pending: iradix.New[string](),
		used: iradix.New[*api.Usage](), tokenByHash: iradix.New[string](),
	}
}

// Index is the index of the last entry that the view contains.
func (v *View) Index() uint64 { return v.index }

// Rack returns the rack's own record.
func (v *View) Rack() Rack { return v.rack }

// App returns an app.
func (v *View) App(name api.AppName) (*api.App, bool) { return v.apps.Get([]byte(name)) }

// Apps iterates over all apps.
func (v *View) Apps() iter.Seq[*api.App] { return values(v.apps, "") }

// Build returns a build.
func (v *View) Build(id api.BuildID) (*api.Build, bool) { return v.builds.Get([]byte(id)) }

// Builds iterates over the builds of an app, newest first.
func (v *View) Builds(app api.AppName) iter.Seq[*api.Build] {
	return joined(v.buildsOf, string(app)+"\x00", v.builds)
}

// BuildsOpen iterates over the builds that have not ended.
func (v *View) BuildsOpen() iter.Seq[*api.Build] { return joined(v.buildsOpen, "", v.builds) }

// Release returns a release.
func (v *View) Release(id api.ReleaseID) (*api.Release, bool) { return v.releases.Get([]byte(id)) }

// Releases iterates over the releases of an app, newest first.
func (v *View) Releases(app api.AppName) iter.Seq[*api.Release] {
	return joined(v.releasesOf, string(app)+"\x00", v.releases)
}

// Spec returns a service as a release describes it.
func (v *View) Spec(release api.ReleaseID, service api.ServiceName) (*api.ServiceSpec, bool) {
	r, ok := v.Release(release)
	if !ok {
		return nil, false
	}
	for i := range r.Services {
		if r.Services[i].Name == service {
			return &r.Services[i], true
		}
	}
	return nil, false
}

// Deployment returns a deployment.
func (v *View) Deployment(id api.DeploymentID) (*api.Deployment, bool) {
	return v.deployments.Get([]byte(id))
}

// Deployments iterates over the deployments of an app, newest first.
func (v *View) Deployments(app api.AppName) iter.Seq[*api.Deployment] {
	return joined(v.deploymentsOf, string(app)+"\x00", v.deployments)
}

// DeploymentsOpen iterates over the deployments that have not ended.
func (v *View) DeploymentsOpen() iter.Seq[*api.Deployment] {
	return joined(v.deploysOpen, "", v.deployments)
}

// Service returns a service in force.
func (v *View) Service(k api.ServiceKey) (*api.Service, bool) {
	return v.services.Get([]byte(k.String()))
}

// Services iterates over the services of an app.
func (v *View) Services(app api.AppName) iter.Seq[*api.Service] {
	return values(v.services, string(app)+"/")
}

// AllServices iterates over the services of all apps.
func (v *View) AllServices() iter.Seq[*api.Service] { return values(v.services, "") }

// Process returns a process.
func (v *View) Process(id api.ProcessID) (*api.Process, bool) { return v.processes.Get([]byte(id)) }

// ProcessesOf iterates over the processes of a service, live and ended, of every kind.
func (v *View) ProcessesOf(k api.ServiceKey) iter.Seq[*api.Process] {
	return joined(v.processesOf, k.String()+"\x00", v.processes)
}

// ProcessesOfApp iterates over the processes of an app, live and ended.
func (v *View) ProcessesOfApp(app api.AppName) iter.Seq[*api.Process] {
	return joined(v.processesOf, string(app)+"/", v.processes)
}

// LiveOf iterates over the live processes of a service, of every kind.
func (v *View) LiveOf(k api.ServiceKey) iter.Seq[*api.Process] {
	return func(yield func(*api.Process) bool) {
		for p := range v.ProcessesOf(k) {
			if p.Live() && !yield(p) {
				return
			}
		}
	}
}

// ProcessesOn iterates over the live processes of a node.
func (v *View) ProcessesOn(node api.NodeID) iter.Seq[*api.Process] {
	return joined(v.liveOn, string(node)+"\x00", v.processes)
}

// LiveProcesses iterates over all live processes.
func (v *View) LiveProcesses() iter.Seq[*api.Process] { return joined(v.live, "", v.processes) }

// Processes iterates over all processes, live and ended.
func (v *View) Processes() iter.Seq[*api.Process] { return values(v.processes, "") }

// Pending iterates over the live processes without a node.
func (v *View) Pending() iter.Seq[*api.Process] { return joined(v.pending, "", v.processes) }

// Node returns a node.
func (v *View) Node(id api.NodeID) (*api.Node, bool) { return v.nodes.Get([]byte(id)) }

// Nodes iterates over all nodes.
func (v *View) Nodes() iter.Seq[*api.Node] { return values(v.nodes, "") }

// Pool returns what an operator said about a pool.
func (v *View) Pool(name api.PoolName) (*api.Pool, bool) { return v.pools.Get([]byte(name)) }

// Pools iterates over the pools that an operator said something about.
func (v *View) Pools() iter.Seq[*api.Pool] { return values(v.pools, "") }

// Used returns what the live processes of a node hold.
func (v *View) Used(node api.NodeID) api.Usage {
	if a, ok := v.used.Get([]byte(node)); ok {
		return *a
	}
	return api.Usage{}
}

// Routes returns the routes of an app.
func (v *View) Routes(app api.AppName) []api.Route {
	if r, ok := v.routes.Get([]byte(app)); ok {
		return r.Routes
	}
	return nil
}

// RoutesChanged is the version of the table in which the routes of an app last changed: a
// router that serves it, or a later one, serves them as they are.
func (v *View) RoutesChanged(app api.AppName) uint64 {
	if r, ok := v.routes.Get([]byte(app)); ok {
		return r.Changed
	}
	return v.routesVersion
}

// RoutesVersion is the index of the last command that changed a route.
func (v *View) RoutesVersion() uint64 { return v.routesVersion }

// RouteTable joins the routes of all apps.
func (v *View) RouteTable() api.RouteTable {
	t := api.RouteTable{Version: v.routesVersion}
	for r := range values(v.routes, "") {
		t.Routes = append(t.Routes, r.Routes...)
	}
	return t
}

// Token returns a token.
func (v *View) Token(id string) (*Token, bool) { return v.tokens.Get([]byte(id)) }

// TokenByHash returns the token with the given hash of its secret.
func (v *View) TokenByHash(hash []byte) (*Token, bool) {
	id, ok := v.tokenByHash.Get(hash)
	if !ok {
		return nil, false
	}
	return v.Token(id)
}

// Tokens iterates over all tokens.
func (v *View) Tokens() iter.Seq[*Token] { return values(v.tokens, "") }

// Requests iterates over the remembered request IDs and when they were applied.
func (v *View) Requests() iter.Seq2[api.RequestID, time.Time] {
	return func(yield func(api.RequestID, time.Time) bool) {
		it := v.requests.Root().Iterator()
		for k, o, ok := it.Next(); ok; k, o, ok = it.Next() {
			if !yield(api.RequestID(k), o.At) {
				return
			}
		}
	}
}

// values iterates over the values whose keys have a prefix.
func values[V any](t tree[V], prefix string) iter.Seq[V] {
	return func(yield func(V) bool) {
		it := t.Root().Iterator()
		it.SeekPrefix([]byte(prefix))
		for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
			if !yield(v) {
				return
			}
		}
	}
}

// joined iterates over an index and yields what its values name.
func joined[V any](index tree[string], prefix string, t tree[V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		for id := range values(index, prefix) {
			if v, ok := t.Get([]byte(id)); ok && !yield(v) {
				return
			}
		}
	}
}

// put returns the tree with key set.
func put[V any](t tree[V], key string, v V) tree[V] {
	t, _, _ = t.Insert([]byte(key), v)
	return t
}

// drop returns the tree without key.
func drop[V any](t tree[V], key string) tree[V] {
	t, _, _ = t.Delete([]byte(key))
	return t
}

// set puts or drops a key of an index.
func set(t tree[string], in bool, key, id string) tree[string] {
	if in {
		return put(t, key, id)
	}
	return drop(t, key)
}

// newestFirst is a key that sorts later times before earlier ones, and equal times by ID.
func newestFirst(app api.AppName, at time.Time, id string) string {
	var b strings.Builder
	b.WriteString(string(app))
	b.WriteByte(0)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], ^uint64(at.UnixNano()))
	b.Write(n[:])
	b.WriteString(id)
	return b.String()
}
