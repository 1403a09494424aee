package state

import "slipway/api"

// State is the root that entries are applied to. It is not safe for concurrent use; the views
// it gives are.
type State struct {
	view *View
	tx   uint64 // of the last change
}

// New returns an empty state.
func New() *State {
	v := newView()
	return &State{view: &v}
}

// View returns the present state. It costs nothing and never changes afterwards.
func (s *State) View() *View { return s.view }

// Result is what an entry came to.
type Result struct {
	// Err is why the command was rejected; the state is as before. nil when it was applied.
	Err *api.Error
	// Duplicate: the request ID was known, the result is that of the first time.
	Duplicate bool
	// Dropped says, a sentence each, which parts of the command did not hold any more.
	Dropped []string
	// Value is what a command returns: the ID of a release whose number was given, for one.
	Value   string
	Changes Changes
	Events  []api.Event
}

// Apply is one of the pure verbs: state + entry → state' + result. It is total (an invalid
// command is rejected, never a panic) and deterministic. Indexes must rise.
func (s *State) Apply(index uint64, e Entry) Result {
	r, _ := s.apply(index, e, false)
	return r
}

// ApplyAll applies the entries of one Raft entry, in order. It does what Apply does for each of
// them, but nobody may look at the states in between: they write to the tables of the entry before, and
// copy nothing twice.
func (s *State) ApplyAll(index uint64, entries []Entry) []Result {
	before, results := s.view, make([]Result, len(entries))
	for i, e := range entries {
		r, clean := s.apply(index, e, i > 0)
		if !clean {
			s.view = before
			return s.applyEach(index, entries)
		}
		results[i] = r
	}
	return results
}

// applyEach is ApplyAll with tables of its own for each entry.
func (s *State) applyEach(index uint64, entries []Entry) []Result {
	results := make([]Result, len(entries))
	for i, e := range entries {
		results[i] = s.Apply(index, e)
	}
	return results
}

// apply applies an entry. joined: it writes to the tables of the entry before, which nobody sees. It
// is not clean when it was rejected after it had written to those.
func (s *State) apply(index uint64, e Entry, joined bool) (r Result, clean bool) {
	c := s.change(index, joined)
	c.at, c.actor, c.reason = e.At, e.Actor, e.Reason
	if e.Request != "" {
		if o, known := c.requests.get(string(e.Request)); known {
			s.view = &c.View
			return Result{Err: o.Err, Duplicate: true, Value: o.Value}, true
		}
	}
	if err := c.apply(e.Command); err != nil {
		if joined && c.wrote {
			return r, false
		}
		// What a rejected command wrote before it failed is thrown away with c.
		c = s.change(index, joined)
		c.res.Err = err
	}
	c.keepEvents()
	if e.Request != "" {
		put(c, &c.requests, string(e.Request), &outcome{At: e.At, Err: c.res.Err, Value: c.res.Value})
	}
	s.view = &c.View
	return c.res, true
}

// change begins a change of the present state.
func (s *State) change(index uint64, joined bool) *change {
	if !joined {
		s.tx++
	}
	c := &change{View: *s.view}
	c.index, c.tx = index, s.tx
	return c
}

// apply is a switch and nothing else.
func (c *change) apply(cmd Command) *api.Error {
	switch cmd := cmd.(type) {
	case CreateApp:
		return c.createApp(cmd)
	case DeleteApp:
		return c.deleteApp(cmd)
	case LockApp:
		return c.lockApp(cmd)
	case CreateBuild:
		return c.createBuild(cmd)
	case StartBuild:
		return c.startBuild(cmd)
	case EndBuild:
		return c.endBuild(cmd)
	case CreateRelease:
		return c.createRelease(cmd)
	case CreateDeployment:
		return c.createDeployment(cmd)
	case CancelDeployment:
		return c.cancelDeployment(cmd)
	case UpdateDeployment:
		return c.updateDeployment(cmd)
	case SetScale:
		return c.setScale(cmd)
	case SetWant:
		return c.setWant(cmd)
	case RestartService:
		return c.restartService(cmd)
	case CreateProcess:
		return c.createProcess(cmd)
	case StopProcess:
		return c.stopProcess(cmd)
	case UpdateProcesses:
		return c.updateProcesses(cmd)
	case SetReady:
		return c.setReady(cmd)
	case SetDesired:
		return c.setDesired(cmd)
	case ApplyPlan:
		return c.applyPlan(cmd)
	case SetRoutes:
		return c.setRoutes(cmd)
	case Reap:
		return c.reap(cmd)
	}
	return c.applyToRack(cmd)
}

// applyToRack is the rest of the switch: what is about machines, and who may use the rack.
func (c *change) applyToRack(cmd Command) *api.Error {
	switch cmd := cmd.(type) {
	case PutPool:
		return c.putPoolCommand(cmd)
	case RegisterNode:
		return c.registerNode(cmd)
	case UpdateNode:
		return c.updateNode(cmd)
	case RemoveNode:
		return c.removeNode(cmd)
	case SetNodeStatus:
		return c.setNodeStatus(cmd)
	case AckRoutes:
		return c.ackRoutes(cmd)
	case PutToken:
		return c.putTokenCommand(cmd)
	case DeleteToken:
		return c.deleteToken(cmd)
	case ConfigureRack:
		return c.configureRack(cmd)
	case PutServer:
		return c.putServer(cmd)
	case RemoveServer:
		return c.removeServer(cmd)
	case PutAuthority:
		return c.putAuthority(cmd)
	case RemoveAuthority:
		return c.removeAuthority(cmd)
	case SwitchAuthority:
		return c.switchAuthority(cmd)
	case LeaveBehind:
		return c.leaveBehind(cmd)
	case PutHolding:
		return c.putHolding(cmd)
	case PutRegistry:
		return c.putRegistry(cmd)
	case RemoveRegistry:
		return c.removeRegistry(cmd)
	case RaiseFormat:
		return c.raiseFormat(cmd)
	}
	return c.applyLater(cmd)
}

// configureRack stores the rack's own record.
func (c *change) configureRack(cmd ConfigureRack) *api.Error {
	what := "rack.changed"
	if c.rack.ClusterID == "" {
		what = "rack.created"
	}
	c.rack = cmd.Rack
	c.res.Changes.All = true
	c.event(what, "", c.rack.Name, "")
	return nil
}
