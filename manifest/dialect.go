package manifest

import "strings"

// Dialect names a set of rules.
type Dialect string

// The dialects of a manifest. Slipway only marks the attributes that are our own.
const (
	V2      Dialect = "v2"
	V3      Dialect = "v3"
	Slipway Dialect = "slipway"
)

// Evidence lists the paths of attributes that only one dialect knows.
type Evidence struct {
	V2      []string `json:"v2,omitempty"`
	V3      []string `json:"v3,omitempty"`
	Slipway []string `json:"slipway,omitempty"`
}

// defaults are what the dialects disagree about.
type defaults struct {
	sticky, init bool
	// core is what a manifest writes for one core, cpu what a service gets if it says nothing.
	core, cpu int
}

func (d Dialect) defaults() defaults {
	if d == V2 {
		return defaults{sticky: true, init: false, core: 1024, cpu: 256}
	}
	return defaults{sticky: false, init: true, core: 1000, cpu: 250}
}

// dialect decides whose defaults hold, once the walk has seen every key, and says so when it
// is not plainly v3.
func (l *loader) dialect() Dialect {
	l.rules = V3
	v2, v3 := l.evidence.V2, l.evidence.V3
	switch {
	case len(v2) > 0 && len(v3) > 0:
		l.warn(nil, "attributes of Convox v2 (%s) and v3 (%s) are mixed; the defaults of v3 hold: "+
			"sticky false, init true, cpu in thousandths of a core", some(v2), some(v3))
	case len(v2) > 0:
		l.rules = V2
		l.warn(nil, "the defaults of Convox v2 hold because of %s: sticky true, init false, cpu in 1024ths of a core", some(v2))
	}
	return l.rules
}

// some joins the first few paths.
func some(paths []string) string {
	const most = 3
	if len(paths) > most {
		return strings.Join(paths[:most], ", ") + ", …"
	}
	return strings.Join(paths, ", ")
}
