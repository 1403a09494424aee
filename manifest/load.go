package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Options are what Load needs beside the text.
type Options struct {
	// Env is the environment of the release: it fills ${NAME} and declared variables.
	Env map[string]string
	// SkipRequired makes missing required variables a warning; they are listed in
	// Manifest.Missing.
	SkipRequired bool
	// AllowPrivileged accepts services that can take over their node: privileged ones, those
	// with dangerous capabilities or without a seccomp profile. Without it they are problems.
	AllowPrivileged bool
}

// FileNames returns the names of manifest files, in the order in which they are looked for.
func FileNames() []string { return []string{"slipway.yml", "convox.yml"} }

// Load reads a manifest. The error is a *Problems that lists everything that is wrong. The
// same text and options always give the same answer.
func Load(text string, o Options) (*Manifest, error) {
	l := &loader{options: o, env: o.Env}

	l.checkEnvironment()
	root := l.parse(text)
	l.check(root, topLevel())

	m := &Manifest{}
	m.Dialect = l.dialect()
	m.Evidence = l.evidence
	l.read(m, root)
	l.validate(m)

	m.Warnings = l.sortedWarnings()
	m.NotActing = outermost(l.idle)
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, &Problems{List: l.problems, Warnings: m.Warnings, More: l.more}
	}
	return m, nil
}

// read turns the checked tree into typed values.
func (l *loader) read(m *Manifest, root *node) {
	m.Environment = l.entries(root.get("environment"))
	m.Labels = l.labels(root.get("labels"))
	m.Params = root.get("params").texts()
	m.Configs = l.configs(root.get("configs"))
	m.Budget = l.budget(root.get("budget"))
	m.Logs = l.appSettings(root.get("appSettings"))
	for _, f := range root.get("resources").entries() {
		m.Resources = append(m.Resources, l.resource(f))
	}
	services := root.get("services").entries()
	if len(services) > servicesMax {
		l.problem(root.get("services"), "manifest has %d services, the limit is %d", len(services), servicesMax)
		services = services[:servicesMax]
	}
	for _, f := range services {
		m.Services = append(m.Services, l.service(f, m))
	}
	for _, f := range root.get("timers").entries() {
		m.Timers = append(m.Timers, l.timer(f))
	}
	for _, f := range root.get("balancers").entries() {
		m.Balancers = append(m.Balancers, l.balancer(f))
	}
}

// loader carries one Load from stage to stage.
type loader struct {
	options Options
	env     map[string]string
	vars    []string // the names of ${NAME}, by number of their token

	rules    Dialect // whose defaults hold; set once the walk has seen all keys
	evidence Evidence
	idle     []string // paths that do not act yet, in the order of the text

	problems []Problem
	warnings []Warning
	more     int

	nodes     int // in the tree so far, aliases expanded
	expanded  int // bytes of the texts in the tree so far
	delivered int // bytes of what the services receive so far
}

// problem records that the manifest cannot be used because of the value at n. The next step
// can be added to what it returns.
func (l *loader) problem(n *node, format string, args ...any) *Problem {
	if len(l.problems) >= reportMax {
		l.more++
		return &Problem{}
	}
	line, path := n.at()
	l.problems = append(l.problems, Problem{Line: line, Path: path, Message: fmt.Sprintf(format, args...)})
	return &l.problems[len(l.problems)-1]
}

// warn records something about the value at n that its author should know.
func (l *loader) warn(n *node, format string, args ...any) *Warning {
	if len(l.warnings) >= reportMax {
		return &Warning{}
	}
	line, path := n.at()
	l.warnings = append(l.warnings, Warning{Line: line, Path: path, Message: fmt.Sprintf(format, args...)})
	return &l.warnings[len(l.warnings)-1]
}

// notActing records that the attribute at path is understood but has no effect yet.
func (l *loader) notActing(path string) {
	if !slices.Contains(l.idle, path) && len(l.idle) < reportMax {
		l.idle = append(l.idle, path)
	}
}

// outermost drops the paths below others.
func outermost(paths []string) []string {
	var out []string
	for _, p := range paths {
		if !slices.ContainsFunc(paths, func(above string) bool { return strings.HasPrefix(p, above+".") || strings.HasPrefix(p, above+"[") }) {
			out = append(out, p)
		}
	}
	return out
}

func (l *loader) sortedWarnings() []Warning {
	slices.SortStableFunc(l.warnings, func(a, b Warning) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Compact(l.warnings)
}

// checkEnvironment refuses names and values that no process could be given.
func (l *loader) checkEnvironment() {
	for _, name := range sortedKeys(l.env) {
		if !envName.MatchString(name) {
			l.problem(nil, "environment name %s invalid, must contain only letters, digits, _, - and ., and not start with a digit", quote(name))
		}
		if strings.ContainsRune(l.env[name], 0) {
			l.problem(nil, "environment variable %s: its value contains a NUL byte", quote(name))
		}
	}
}
