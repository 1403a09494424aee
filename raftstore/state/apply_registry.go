package state

import (
	"iter"
	"time"

	"slipway/api"
)

// Registry is the login of a registry outside the rack. The password is sealed with the servers'
// keyring.
type Registry struct {
	Server   string // as api.RegistryServer has it
	Username string
	Sealed   []byte
	Changed  time.Time // set by Apply
}

// registriesMax bounds how many there are: builds get them all.
const registriesMax = 100

// The commands about the registries that builds pull from.
type (
	// PutRegistry stores a login, in place of the one before.
	PutRegistry struct{ Registry Registry }
	// RemoveRegistry forgets a login.
	RemoveRegistry struct{ Server string }
)

// Type names of the commands in the log.
func (PutRegistry) Type() string    { return "put_registry" }
func (RemoveRegistry) Type() string { return "remove_registry" }

// Registries returns the logins of registries outside the rack, by server.
func (v *View) Registries() iter.Seq[*Registry] { return values(v.registries, "") }

// Registry returns the login of one.
func (v *View) Registry(server string) (*Registry, bool) { return v.registries.get(server) }

func (c *change) putRegistry(cmd PutRegistry) *api.Error {
	r := cmd.Registry
	_, known := c.registries.get(r.Server)
	what := "registry.added"
	switch {
	case r.Server == "" || r.Username == "" || len(r.Sealed) == 0:
		return api.Errorf(api.CodeInvalid, "a registry needs a server, a username and a password")
	case known:
		what = "registry.changed"
	case c.registries.len() >= registriesMax:
		return api.Errorf(api.CodeExhausted, "the rack has the logins of %d registries, the limit; remove one: slipway registries remove SERVER", registriesMax)
	}
	r.Changed = c.at
	put(c, &c.registries, r.Server, &r)
	c.event(what, "", r.Server, "user "+r.Username)
	return nil
}

func (c *change) removeRegistry(cmd RemoveRegistry) *api.Error {
	r, ok := c.registries.get(cmd.Server)
	if !ok {
		var known []string
		for r := range c.Registries() {
			known = append(known, r.Server)
		}
		return api.NotFoundSee("registry", cmd.Server, known, "slipway registries")
	}
	drop(c, &c.registries, cmd.Server)
	c.event("registry.removed", "", r.Server, "user "+r.Username)
	return nil
}
