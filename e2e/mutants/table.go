package mutants

// Mutant is one bug and what finds it.
type Mutant struct {
	Name string
	// File is what it is in, from the root; Old occurs there exactly once and becomes New.
	File, Old, New string
	Finder
}

// Finder is a test that fails because of the bug.
type Finder struct {
	Package string // from the root
	Run     string // of go test
	Args    string // of the test
}

// storm is the simulator with every fault. It takes one seed after the other until one finds the
// bug: which that is changes with every wait in the product, and the rarest bug here shows in one of
// six.
func storm() Finder { return Finder{"./e2e/sim", "^TestFaults$", "-seed 1 -tries 20"} }

// scenario is one story in the simulator, without faults but for its own.
func scenario(run string) Finder { return Finder{"./e2e/sim", "^" + run + "$", ""} }

// property is a rapid property, from a seed.
func property(pkg, run string) Finder { return propertyFrom("7", pkg, run) }

func propertyFrom(seed, pkg, run string) Finder {
	return Finder{pkg, "^" + run + "$", "-rapid.seed " + seed + " -rapid.nofailfile -rapid.checks 1500 -rapid.shrinktime 1ms"}
}

// Mutants are the bugs.
var Mutants = []Mutant{
	// The replicated log.
	{"vote without a sync", "e2e/sim/raft.go", "s.disk.term, s.disk.vote = s.term, s.vote\n\treturn true", "return true", storm()},
	{"answer before the entry is on disk", "e2e/sim/raft.go", "\tknown := prev + uint64(len(entries))\n\ts.sync(func() {", "\tknown := prev + uint64(len(entries))\n\ts.live(0, func() {", storm()},
	{"vote twice in a term", "e2e/sim/raft.go", "s.vote != \"\" && s.vote != c.name || behind", "behind", storm()},
	{"vote for one that is behind", "e2e/sim/raft.go", "s.vote != c.name || behind {", "s.vote != c.name || behind && term == 0 {", storm()},
	{"commit without a majority", "e2e/sim/raft.go", "index := have[(len(have)-1)/2]", "index := have[len(have)-1]", storm()},

	// The state.
	{"accept a stale plan", "raftstore/state/apply_process.go", "case !ask.Fits(n.Available().Sub(used.Amount)):", "case ask.CPU < 0:", property("./raftstore/state", "TestReplicasStayEqual")},
	{"place a slot twice", "raftstore/state/apply_process.go", "case t.has(cp.Slot):", "case t.has(cp.Slot) && cp.Slot < 0:", propertyFrom("1", "./raftstore/state", "TestReplicasStayEqual")},
	{"states go back", "raftstore/state/apply_process.go", "case !p.Observed.State.CanMove(status.State):", "case p.Observed.State.Ended() && !status.State.Ended():", property("./raftstore/state", "TestProcessStatesNeverGoBack")},
	{"drop a status", "raftstore/state/apply_process.go", "\tnext.Observed = status\n", "\tif status.State != api.StateExited {\n\t\tnext.Observed = status\n\t}\n", scenario("TestRollingDeployKeepsTheMinimum")},
	{"a snapshot forgets a table", "raftstore/state/snapshot.go", "\t\tfunc() error { return encodeTable(enc, \"request\", v.requests) },\n", "", property("./raftstore/state", "TestReplicasStayEqual")},
	{"give back what was never taken", "raftstore/state/tables.go", "\t\tc.reserve(old, -1)\n", "", property("./raftstore/state", "TestReplicasStayEqual")},
	{"write to the tables of a view", "raftstore/state/table.go", "\tif t.tx != c.tx {\n\t\tt = &tally{", "\tif t.tx == 0 {\n\t\tt = &tally{", property("./raftstore/state", "TestReplicasStayEqual")},
	{"a lost node keeps its processes", "raftstore/state/apply_node.go", "\tif n.Status == api.NodeDown {\n\t\tc.lose(", "\tif n.Status == api.NodeDown && len(n.Labels) > 9 {\n\t\tc.lose(", scenario("TestNodeLossMovesCopies")},

	// The scheduler.
	{"ignore reserved resources", "scheduler/cluster.go", "classOf(n), n.Available(), statusOf(n)", "classOf(n), n.Capacity, statusOf(n)", property("./scheduler", "TestPlansAreSafe")},
	{"ignore a constraint", "scheduler/feasible.go", "if value, ok := n.Attribute(con.Attribute); !con.Holds(value, ok) {", "if value, ok := n.Attribute(con.Attribute); ok && con.Operator == \"=\" && !con.Holds(value, ok) {", property("./scheduler", "TestPlansAreSafe")},
	{"place on a draining node", "scheduler/feasible.go", "case m.status == draining:", "case m.status == draining && m.class < 0:", property("./scheduler", "TestPlansAreSafe")},
	{"lose a wake-up", "server/steps/steps.go", "if a.IsZero() || !b.IsZero() && b.Before(a) {", "if !b.IsZero() && b.Before(a) {", scenario("TestNodeLossMovesCopies")},
	{"two copies of a singleton", "scheduler/schedule.go", "case d.singleton && d.alive > 0:", "case d.singleton && d.alive > 1:", property("./scheduler", "TestPlansAreSafe")},
	{"forget a node that changed", "scheduler/shape.go", "for _, i := range c.log[sh.seen-c.cut:] {", "for _, i := range c.log[min(len(c.log), sh.seen-c.cut+1):] {", property("./scheduler", "TestKeptIsFresh")},
	{"not the best node", "scheduler/shape.go", "if child+1 < len(h) && c.before(h[child+1], h[child]) {", "if child+1 < len(h) && c.before(h[child], h[child+1]) {", property("./scheduler", "TestBestIsBest")},
	{"the wrong copies make room", "scheduler/preempt.go", "if (!found || sum.compare(best.cost) < 0) && fits(set) {", "if (!found || sum.compare(best.cost) > 0) && fits(set) {", property("./scheduler", "TestPreemptionIsLeastCostly")},
	{"give a host port twice", "scheduler/feasible.go", "if held.HoldsPort(p.Host, p.Protocol) {", "if held.HoldsPort(p.Host, p.Protocol) && p.Port < 0 {", property("./scheduler", "TestPlansAreSafe")},

	// The leader's steps.
	{"one copy too many", "server/steps/rollout/pace.go", "wantNew = min(b.n, max(fresh, b.n+b.surge-held))", "wantNew = min(b.n+1, max(fresh, b.n+1+b.surge-held))", scenario("TestRollingDeployKeepsTheMinimum")},
	{"undercut the minimum", "server/steps/rollout/pace.go", "wantOld = max(0, b.n-b.missing-ready)", "wantOld = max(0, b.n-b.missing-ready-1)", scenario("TestRollingDeployKeepsTheMinimum")},
	{"a receipt that nobody checked", "server/steps/rollout/receipt.go", "r.Verified = r.Verified && s.Ready >= s.Count", "r.Verified = r.Verified && s.Ready > s.Count", scenario("TestRollingDeployKeepsTheMinimum")},
	{"route before health", "server/steps/ingress/routes.go", "\t\to.Health != api.HealthHealthy || o.Addr", "\t\to.Health == api.HealthUnhealthy || o.Addr", scenario("TestRollingDeployKeepsTheMinimum")},
	{"stop before drained", "server/steps/ingress/step.go", "drained := !p.acks.any || p.acks.oldest >= p.v.RoutesChanged(q.App) && !p.acks.draining[q.ID]", "drained := true", scenario("TestRollingDeployKeepsTheMinimum")},
	{"no grace after an election", "server/steps/liveness/step.go", "\tat := in.Leader\n", "\tat := time.Time{}\n", scenario("TestLeaderLossTouchesNoProcess")},
	{"a silent node stays ready", "server/steps/liveness/step.go", "if deadline := s.since.Add(s.limit); in.Now.Before(deadline) {", "if deadline := s.since.Add(s.limit); in.Now.Before(deadline.Add(240 * time.Hour)) {", scenario("TestNodeLossMovesCopies")},
	{"drain everything at once", "server/steps/rollout/want.go", "keep := min(wantOld, t.staleReady)", "keep := 0 * min(wantOld, t.staleReady)", scenario("TestDrainKeepsTheMinimum")},

	{"forget to go back", "server/steps/rollout/step.go", "switch there := p.move(d.Previous) &&", "switch there := p.move(d.Release) &&", scenario("TestBadReleasesFailFastAndGoBack")},
	{"depend on the order of a map", "server/schedule.go", "return slices.SortedFunc(maps.Keys(keys), func(a, b api.ServiceKey) int { return strings.Compare(a.String(), b.String()) })", "_ = strings.Compare\n\treturn slices.Collect(maps.Keys(keys))", scenario("TestSameSeedSameHistory")},

	// The agent.
	{"ignore the stop", "agent/next.go", "case want.Desired == api.DesiredStop || l.Unwanted || l.Condemned != \"\":", "case l.Unwanted || l.Condemned != \"\":", scenario("TestRollingDeployKeepsTheMinimum")},
	{"keep what nobody wants", "agent/next.go", "case want.Desired == api.DesiredStop || l.Unwanted || l.Condemned", "case want.Desired == api.DesiredStop || l.Condemned", storm()},
}
