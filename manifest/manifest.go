package manifest

import (
	"maps"
	"slices"

	"slipway/api"
)

// Manifest is what a manifest says, with every default filled in.
type Manifest struct {
	// Dialect tells whose defaults hold, Evidence why.
	Dialect  Dialect  `json:"dialect"`
	Evidence Evidence `json:"evidence,omitzero"`

	Environment []EnvEntry        `json:"environment,omitempty"`
	Services    []Service         `json:"services,omitempty"`
	Resources   []Resource        `json:"resources,omitempty"`
	Timers      []Timer           `json:"timers,omitempty"`
	Balancers   []Balancer        `json:"balancers,omitempty"`
	Configs     []Config          `json:"configs,omitempty"`
	Budget      *Budget           `json:"budget,omitempty"`
	Logs        *Logs             `json:"logs,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Params      map[string]string `json:"params,omitempty"`

	Warnings []Warning `json:"warnings,omitempty"`
	// NotActing lists the attributes that are understood and kept, but have no effect yet.
	NotActing []string `json:"not_acting,omitempty"`
	// Missing lists the required variables without a value, sorted. It is empty unless
	// Options.SkipRequired is set.
	Missing []string `json:"missing,omitempty"`
}

// Service is one process type.
type Service struct {
	Spec api.ServiceSpec `json:"spec"`
	// Env is what the service receives. It is secret and never printed.
	Env map[string]string `json:"-"`
	// Command is what runs, word by word; empty keeps the image's. It may hold values of the
	// environment and is never printed; Source is the same as it stands in the text.
	Command []string `json:"-"`
	Source  string   `json:"command,omitempty"`
	// Entrypoint replaces the image's ENTRYPOINT; empty keeps it. May be secret as well.
	Entrypoint []string `json:"-"`
	// Test is the command that tests the service; empty for none.
	Test string `json:"-"`
	// Declared lists the variables that the service declares, those of the whole app first.
	Declared []EnvEntry `json:"environment,omitempty"`
	// Links names the variables that each linked resource fills.
	Links []Link `json:"links,omitempty"`
	// Extra holds the attributes that do not act yet, as they stand in the text.
	Extra map[string]any `json:"extra,omitempty"`

	missing []EnvEntry
	node    *node
}

// Specs returns the services as the rest of the system knows them, in the order of the text.
func (m *Manifest) Specs() []api.ServiceSpec {
	specs := make([]api.ServiceSpec, 0, len(m.Services))
	for i := range m.Services {
		specs = append(specs, m.Services[i].Spec)
	}
	return specs
}

// Secrets returns the part of a release that must be encrypted. The environment must be the
// one that was given to Load.
func (m *Manifest) Secrets(env map[string]string) api.ReleaseSecrets {
	secrets := api.ReleaseSecrets{
		Env:      maps.Clone(env),
		Services: make(map[api.ServiceName]api.ServiceSecrets, len(m.Services)),
	}
	for _, s := range m.Services {
		secrets.Services[s.Spec.Name] = api.ServiceSecrets{
			Env:     maps.Clone(s.Env),
			Command: slices.Clone(s.Command),
		}
	}
	return secrets
}

// RequiredEnv returns the names of all variables that must have a value before a release can
// be made, sorted.
func (m *Manifest) RequiredEnv() []string {
	names := map[string]bool{}
	for _, s := range m.Services {
		for _, e := range s.Declared {
			if e.Required {
				names[e.Name] = true
			}
		}
	}
	return sortedKeys(names)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
