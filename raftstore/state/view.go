package state

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"strings"
	"time"

	"slipway/api"
)

// View is one immutable state of the rack. Reading it never blocks and costs no copy; what its
// methods return is shared and must not be modified. Every iteration is in key order.
type View struct {
	index         uint64
	tx            uint64 // of the change that made it
	routesVersion uint64
	format        uint32 // see format.go
	lastEvent     uint64 // number of the last event that was kept
	rack          Rack

	apps        *table[*api.App]
	builds      *table[*api.Build]
	releases    *table[*api.Release]
	deployments *table[*api.Deployment]
	services    *table[*api.Service]
	processes   *roster
	nodes       *table[*api.Node]
	pools       *table[*api.Pool]
	routes      *table[*appRoutes]
	tokens      *table[*Token]
	removed     *table[*removal]
	servers     *table[*api.Server]
	authorities *table[*Authority]
	holdings    *table[*Holding]
	registries  *table[*Registry]
	requests    *table[*outcome]
	audit       *table[*api.Event] // by users; audit and history by number
	history     *table[*api.Event]

	// Indexes hold the primary key as value and are derived: a snapshot does not carry them.
	buildsOf      *table[string]  // app NUL inverted time, id
	buildsOpen    *table[string]  // id
	releasesOf    *table[string]  // app NUL inverted number
	deploymentsOf *table[string]  // app NUL inverted time, id
	deploysOpen   *table[string]  // id
	processesOf   *table[*roster] // by app/service
	pending       *roster         // live ones without a node
	tallies       *table[*tally]  // app/service NUL release
	waiting       *table[string]  // services with a sentence
	agents        *table[string]  // services with a copy on each node
	used          *table[*usage]  // by node, of those where something lives
	tokenByHash   *table[string]  // hash
	subnets       *table[string]  // subnet of a node
	// subnetsFrom: no subnet before it is free.
	subnetsFrom netip.Prefix
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
		format: FormatFirst,
		apps:   newTable[*api.App](), builds: newTable[*api.Build](), releases: newTable[*api.Release](),
		deployments: newTable[*api.Deployment](), services: newTable[*api.Service](),
		processes: &roster{}, nodes: newTable[*api.Node](), pools: newTable[*api.Pool](), routes: newTable[*appRoutes](),
		tokens: newTable[*Token](), removed: newTable[*removal](), servers: newTable[*api.Server](), authorities: newTable[*Authority](), holdings: newTable[*Holding](), registries: newTable[*Registry](), requests: newTable[*outcome](),
		audit: newTable[*api.Event](), history: newTable[*api.Event](),
		buildsOf: newTable[string](), buildsOpen: newTable[string](), releasesOf: newTable[string](),
		deploymentsOf: newTable[string](), deploysOpen: newTable[string](), processesOf: newTable[*roster](), pending: &roster{},
		tallies: newTable[*tally](), waiting: newTable[string](), agents: newTable[string](),
		used: newTable[*usage](), tokenByHash: newTable[string](), subnets: newTable[string](),
	}
}

// Index is the index of the last entry that the view contains.
func (v *View) Index() uint64 { return v.index }

// Rack returns the rack's own record.
func (v *View) Rack() Rack { return v.rack }

// App returns an app.
func (v *View) App(name api.AppName) (*api.App, bool) { return v.apps.get(string(name)) }

// Apps iterates over all apps.
func (v *View) Apps() iter.Seq[*api.App] { return values(v.apps, "") }

// Build returns a build.
func (v *View) Build(id api.BuildID) (*api.Build, bool) { return v.builds.get(string(id)) }

// Builds iterates over the builds of an app, newest first.
func (v *View) Builds(app api.AppName) iter.Seq[*api.Build] {
	return joined(v.buildsOf, string(app)+"\x00", v.builds)
}

// BuildsOpen iterates over the builds that have not ended.
func (v *View) BuildsOpen() iter.Seq[*api.Build] { return joined(v.buildsOpen, "", v.builds) }

// Release returns a release.
func (v *View) Release(id api.ReleaseID) (*api.Release, bool) { return v.releases.get(string(id)) }

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
	return v.deployments.get(string(id))
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
	return v.services.get(k.String())
}

// Services iterates over the services of an app.
func (v *View) Services(app api.AppName) iter.Seq[*api.Service] {
	return values(v.services, string(app)+"/")
}

// AllServices iterates over the services of all apps.
func (v *View) AllServices() iter.Seq[*api.Service] { return values(v.services, "") }

// Process returns a process.
func (v *View) Process(id api.ProcessID) (*api.Process, bool) { return v.processes.get(id) }

// none iterates over nothing.
func none(func(*api.Process) bool) {}

// ProcessesOf iterates over the processes of a service, live and ended, of every kind.
func (v *View) ProcessesOf(k api.ServiceKey) iter.Seq[*api.Process] {
	if r, ok := v.processesOf.get(k.String()); ok {
		return r.all()
	}
	return none
}

// ProcessesOfApp iterates over the processes of an app, live and ended.
func (v *View) ProcessesOfApp(app api.AppName) iter.Seq[*api.Process] {
	return func(yield func(*api.Process) bool) {
		for r := range values(v.processesOf, string(app)+"/") {
			for p := range r.all() {
				if !yield(p) {
					return
				}
			}
		}
	}
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

// WaitingServices iterates over the services of which copies have no place.
func (v *View) WaitingServices() iter.Seq[*api.Service] { return joined(v.waiting, "", v.services) }

// AgentServices iterates over the services that have a copy on each node.
func (v *View) AgentServices() iter.Seq[*api.Service] { return joined(v.agents, "", v.services) }

// ProcessesOn iterates over the live processes of a node.
func (v *View) ProcessesOn(node api.NodeID) iter.Seq[*api.Process] {
	if u, ok := v.used.get(string(node)); ok {
		return u.live.all()
	}
	return none
}

// LiveProcesses iterates over all live processes.
func (v *View) LiveProcesses() iter.Seq[*api.Process] {
	return func(yield func(*api.Process) bool) {
		for p := range v.Processes() { // those that ended are reaped before they are many
			if p.Live() && !yield(p) {
				return
			}
		}
	}
}

// Processes iterates over all processes, live and ended.
func (v *View) Processes() iter.Seq[*api.Process] { return v.processes.all() }

// Pending iterates over the live processes without a node.
func (v *View) Pending() iter.Seq[*api.Process] { return v.pending.all() }

// Node returns a node.
func (v *View) Node(id api.NodeID) (*api.Node, bool) { return v.nodes.get(string(id)) }

// Nodes iterates over all nodes.
func (v *View) Nodes() iter.Seq[*api.Node] { return values(v.nodes, "") }

// Pool returns what an operator said about a pool.
func (v *View) Pool(name api.PoolName) (*api.Pool, bool) { return v.pools.get(string(name)) }

// Pools iterates over the pools that an operator said something about.
func (v *View) Pools() iter.Seq[*api.Pool] { return values(v.pools, "") }

// Used returns what the live processes of a node hold.
func (v *View) Used(node api.NodeID) api.Usage {
	if u, ok := v.used.get(string(node)); ok {
		return u.Usage
	}
	return api.Usage{}
}

// Routes returns the routes of an app.
func (v *View) Routes(app api.AppName) []api.Route {
	if r, ok := v.routes.get(string(app)); ok {
		return r.Routes
	}
	return nil
}

// RoutesChanged is the version of the table in which the routes of an app last changed: a
// router that serves it, or a later one, serves them as they are.
func (v *View) RoutesChanged(app api.AppName) uint64 {
	if r, ok := v.routes.get(string(app)); ok {
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
func (v *View) Token(id string) (*Token, bool) { return v.tokens.get(string(id)) }

// TokenByHash returns the token with the given hash of its secret.
func (v *View) TokenByHash(hash []byte) (*Token, bool) {
	id, ok := v.tokenByHash.get(string(hash))
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
		for k, o := range v.requests.all("") {
			if !yield(api.RequestID(k), o.At) {
				return
			}
		}
	}
}

// Succeeded reports whether a write with a request ID was applied.
func (v *View) Succeeded(id api.RequestID) bool {
	o, known := v.requests.get(string(id))
	return known && o.Err == nil
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
