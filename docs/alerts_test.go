package docs

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.yaml.in/yaml/v3"
)

const (
	alertsFile    = "../packaging/prometheus/alerts.yml"
	alertsTest    = "../packaging/prometheus/alerts_test.yml"
	dashboardFile = "../packaging/grafana/slipway.json"
)

// series maps what metrics.md describes to its labels, and what every program tells of itself.
func series(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{"up": nil, "ALERTS": {"alertname", "alertstate"}}
	for _, m := range regexp.MustCompile("(?m)^\\| `(slipway_[a-z_]+)` \\| ([a-z, ]*) \\|").FindAllStringSubmatch(string(page), -1) {
		out[m[1]] = strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
	}
	if len(out) < 30 {
		t.Fatalf("metrics.md describes %d series", len(out))
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	own, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range own {
		out[f.GetName()] = nil
	}
	return out
}

var (
	nameRule     = regexp.MustCompile(`\b(slipway_[a-z_]+|process_[a-z_]+|up|ALERTS)\b(?:\{([^}]*)\})?`)
	matcherRule  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"[^"]*"`)
	groupingRule = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
	shownRule    = regexp.MustCompile(`\{\{ ?(?:\$labels\.)?([a-z_]+) ?\}\}`)
	quotedRule   = regexp.MustCompile(`"[^"]*"`)
)

// everywhere are labels that the scrape adds, or a histogram has.
var everywhere = []string{"instance", "job", "le"}

// checkExpression compares the names and labels of an expression, and the labels that its texts
// show, with what there is.
func checkExpression(t *testing.T, where, expr string, known map[string][]string, texts ...string) {
	t.Helper()
	labels := slices.Clone(everywhere)
	found := 0
	for _, m := range nameRule.FindAllStringSubmatch(expr, -1) {
		name := m[1]
		have, ok := known[name]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, is := strings.CutSuffix(name, suffix); is && !ok {
				have, ok = known[base]
			}
		}
		if !ok {
			t.Errorf("%s: there is no %s", where, name)
			continue
		}
		found++
		labels = append(labels, have...)
		for _, matcher := range matcherRule.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(have, matcher[1]) && !slices.Contains(everywhere, matcher[1]) {
				t.Errorf("%s: %s has no label %s", where, name, matcher[1])
			}
		}
	}
	if found == 0 {
		t.Errorf("%s: %q asks for nothing", where, expr)
	}
	var used []string
	for _, m := range groupingRule.FindAllStringSubmatch(quotedRule.ReplaceAllString(expr, ""), -1) {
		used = append(used, strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	for _, text := range texts {
		for _, m := range shownRule.FindAllStringSubmatch(text, -1) {
			used = append(used, m[1])
		}
	}
	for _, label := range used {
		if !slices.Contains(labels, label) {
			t.Errorf("%s: nothing in %q has label %s", where, expr, label)
		}
	}
}

// rules is a file of alerts.
type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func TestAlertsAskForWhatThereIs(t *testing.T) {
	text, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	tested, err := os.ReadFile(alertsTest)
	if err != nil {
		t.Fatal(err)
	}
	var file rules
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	known := series(t)
	names := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			summary, runbook := r.Annotations["summary"], r.Annotations["runbook"]
			checkExpression(t, r.Alert, r.Expr, known, summary, runbook)
			if names[r.Alert] || !strings.HasPrefix(r.Alert, "Slipway") {
				t.Errorf("alert %q is there twice, or not named for Slipway", r.Alert)
			}
			names[r.Alert] = true
			if !slices.Contains([]string{"info", "warning", "critical"}, r.Labels["severity"]) {
				t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
			}
			if !strings.HasSuffix(summary, ".") || !strings.HasSuffix(runbook, ".") {
				t.Errorf("%s: the summary or the runbook is no sentence: %q, %q", r.Alert, summary, runbook)
			}
			if !strings.Contains(string(tested), r.Alert) {
				t.Errorf("%s is not in %s", r.Alert, alertsTest)
			}
		}
	}
	if len(names) < 20 {
		t.Errorf("only %d alerts: %q", len(names), slices.Sorted(maps.Keys(names)))
	}
}

func TestDashboardAsksForWhatThereIs(t *testing.T) {
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title      string
		Panels     []panel
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Annotations struct {
			List []struct{ Expr, TitleFormat string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	known := series(t)
	asked := map[string]bool{}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 {
			t.Errorf("panel %q: number %d is there twice, or it lies outside: %+v", p.Title, p.ID, p.GridPos)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			checkExpression(t, p.Title, target.Expr, known, target.LegendFormat)
			for _, m := range nameRule.FindAllStringSubmatch(target.Expr, -1) {
				asked[regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(m[1], "")] = true
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
	}
	for _, v := range board.Templating.List {
		if v.Definition != "" {
			checkExpression(t, "variable "+v.Name, v.Definition, known)
		}
	}
	for _, a := range board.Annotations.List {
		checkExpression(t, "annotation", a.Expr, known, a.TitleFormat)
	}
	for name := range known {
		if strings.HasPrefix(name, "slipway_") && !asked[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// panel is what of a panel is checked.
type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ Expr, LegendFormat string }
}

// TestAlertsFire runs the alerts on made-up series.
func TestAlertsFire(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("promtool is not installed (Debian: prometheus)")
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", alertsFile).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", alertsTest).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
