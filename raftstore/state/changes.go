package state

import "slipway/api"

// Changes is the set of keys that changed between two views. Steps get it so that their cost
// follows the change and not the size of the rack. It never carries decisions: a step that
// looks at more than the changed keys is slower, not wrong.
type Changes struct {
	// All means that everything may have changed, as right after an election.
	All       bool
	Apps      map[api.AppName]bool
	Services  map[api.ServiceKey]bool // also when one of their processes changed
	Processes map[api.ProcessID]bool
	Nodes     map[api.NodeID]bool
	Builds    map[api.BuildID]bool
	Routes    map[api.AppName]bool
}

// Everything is the change set of a first look.
func Everything() Changes { return Changes{All: true} }

// Empty reports whether nothing changed.
func (c Changes) Empty() bool {
	return !c.All && len(c.Apps)+len(c.Services)+len(c.Processes)+len(c.Nodes)+len(c.Builds)+len(c.Routes) == 0
}
