package manifest

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// EnvEntry declares one variable of a service.
type EnvEntry struct {
	// Name is "*" for all variables of the app.
	Name string `json:"name"`
	// Required variables must have a value in the environment.
	Required bool `json:"required,omitempty"`
	// Default is the value without one in the environment. It may hold values of the
	// environment and is never printed; Source is the same as it stands in the text.
	Default string `json:"-"`
	Source  string `json:"default,omitempty"`

	node *node
}

// entries reads a list of KEY, KEY=default and "*". Lists within it count as part of it.
func (l *loader) entries(n *node) []EnvEntry {
	var entries []EnvEntry
	for _, item := range n.elements() {
		switch {
		case item.kind == list:
			entries = append(entries, l.entries(item)...)
		case item.kind == scalar && n.kind == list:
			if e, ok := l.entry(item); ok {
				entries = append(entries, e)
			}
		}
	}
	return entries
}

func (l *loader) entry(n *node) (EnvEntry, bool) {
	name, def, hasDefault := strings.Cut(n.text, "=")
	sourceName, sourceDef, _ := strings.Cut(n.source, "=")
	switch {
	case n.text == "*":
		return EnvEntry{Name: "*", node: n}, true
	case n.vars && strings.Contains(sourceName, "${"):
		l.problem(n, "%s: a variable can fill a default, but not the name in %s", n.path, quote(sourceName))
		return EnvEntry{}, false
	case goType(n) != "string":
		l.problem(n, "%s must be KEY, KEY=default or \"*\", got %s, which YAML 1.1 reads as another type", n.path, n.text).
			hint("write it in quotes")
		return EnvEntry{}, false
	case !envName.MatchString(name):
		l.problem(n, "%s must be KEY, KEY=default or \"*\", got %s: a name has only letters, digits, _, - and ., and does not start with a digit",
			n.path, quote(sourceName))
		return EnvEntry{}, false
	}
	return EnvEntry{Name: name, Required: !hasDefault, Default: def, Source: sourceDef, node: n}, true
}

// resolve returns what a service receives of the environment, and which required variables it
// has not. A variable that is declared without a default anywhere stays required, even if a
// default is given elsewhere.
func resolve(declared []EnvEntry, env map[string]string) (values map[string]string, missing []EnvEntry) {
	values = map[string]string{}
	all := false
	for _, e := range declared {
		if e.Name == "*" {
			if !all {
				maps.Copy(values, env)
				all = true
			}
			continue
		}
		value, ok := env[e.Name]
		switch {
		case ok:
			values[e.Name] = value
		case e.Required:
			missing = append(missing, e)
		default:
			values[e.Name] = e.Default
		}
	}
	return values, missing
}

// required reports the missing variables of all services in one message.
func (l *loader) required(m *Manifest) {
	var names []string
	var first *node
	for _, s := range m.Services {
		for _, e := range s.missing {
			if first == nil || e.node.line < first.line {
				first = e.node
			}
			names = append(names, e.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	names = slices.Compact(names)
	message := "required env: " + strings.Join(names, ", ")
	hint := "set it before a deploy: slipway env set " + names[0] + "=VALUE"
	if l.options.SkipRequired {
		m.Missing = names
		l.warn(first, "%s", message).hint(hint)
		return
	}
	l.problem(first, "%s", message).hint(hint)
}
