package server

import (
	"fmt"
	"strings"
	"testing"

	"slipway/api"
	"slipway/raftstore/state"
)

// A source that one server took in is on all of them in the end: on those that were there, and on
// one that was away. What nobody has is counted.
func TestSourcesAreOnEveryServer(t *testing.T) {
	all := three(t)
	away := all[(leading(t, all)+1)%3]
	away.end()
	rest := without(all, away)
	one := rest[leading(t, rest)]
	source, _, err := one.sources.Put(t.Context(), strings.NewReader("a source"), api.MiB)
	if err != nil {
		t.Fatal(err)
	}
	lost := "sha256:" + strings.Repeat("a", 64)
	for _, cmd := range []state.Command{
		state.CreateApp{App: api.App{Name: "shop"}}, state.CreateBuild{Build: api.Build{ID: "B1", App: "shop", Source: source}},
		state.CreateApp{App: api.App{Name: "blog"}}, state.CreateBuild{Build: api.Build{ID: "B2", App: "blog", Source: lost}},
	} {
		if res, err := one.store.Propose(t.Context(), one.entry(cmd)); err != nil || res.Err != nil {
			t.Fatal(err, res.Err)
		}
	}
	cfg := away.cfg
	cfg.Bootstrap, cfg.Join, cfg.Token = false, nil, ""
	for _, m := range append(rest, start(t, cfg)) {
		await(t, "source on "+m.cfg.Version, func() (string, bool) {
			missing := gauge(t, m, "slipway_content_missing", "source")
			return fmt.Sprint("held ", m.sources.Holds(source), ", missing ", missing), m.sources.Holds(source) && missing == 1
		})
	}
}

func without(all []*member, one *member) (out []*member) {
	for _, m := range all {
		if m != one {
			out = append(out, m)
		}
	}
	return out
}

// gauge reads a gauge by its name and the value of its label; -1 where there is none.
func gauge(t *testing.T, m *member, name, label string) float64 {
	t.Helper()
	families, err := m.Server.cfg.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, one := range f.GetMetric() {
			if f.GetName() == name && one.GetLabel()[0].GetValue() == label {
				return one.GetGauge().GetValue()
			}
		}
	}
	return -1
}
