package docs

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"slipway/agent"
	"slipway/agent/router"
	"slipway/api"
	"slipway/server"
)

var rewrite = flag.Bool("rewrite", false, "write the tables of metrics.md anew")

// described lists what a registry measures, as rows of a table in the order of their names. The
// metrics of Go and of the process are described elsewhere.
func described(reg *prometheus.Registry) string {
	form := regexp.MustCompile(`^Desc\{fqName: "(slipway_[a-z_]+)", help: "(.*)", unit: ".*", constLabels: \{\}, variableLabels: \{(.*)\}\}$`)
	descs := make(chan *prometheus.Desc)
	go func() {
		reg.Describe(descs)
		close(descs)
	}()
	var rows []string
	for d := range descs {
		if m := form.FindStringSubmatch(d.String()); m != nil {
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", m[1], strings.ReplaceAll(m[3], ",", ", "), m[2]))
		}
	}
	slices.Sort(rows)
	return "| name | labels | meaning |\n|---|---|---|\n" + strings.Join(rows, "")
}

// TestMetrics compares metrics.md with what server, agent and router register. -rewrite brings
// the page up to date.
func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	tables := map[string]string{}
	reg := prometheus.NewRegistry()
	s, err := server.New(t.Context(), server.Config{
		Dir: filepath.Join(dir, "server"), Bootstrap: true, Rack: "test", Domain: "test", Alone: true, Metrics: reg, Log: log,
		GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", RaftAddr: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	tables["Server"] = described(reg)
	reg = prometheus.NewRegistry()
	if err := os.Mkdir(filepath.Join(dir, "node"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.New(agent.Config{
		Dir: filepath.Join(dir, "node"), Node: api.Node{ID: "none"}, Metrics: reg, Now: time.Now, Log: log,
	}); err != nil {
		t.Fatal(err)
	}
	tables["Agent"] = described(reg)
	reg = prometheus.NewRegistry()
	r, err := router.New(router.Config{HTTPAddr: "127.0.0.1:0", ControlSocket: filepath.Join(dir, "socket"), Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	tables["Router"] = described(reg)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	check(t, tables)
}

// check compares the table of each section, or writes it.
func check(t *testing.T, tables map[string]string) {
	t.Helper()
	b, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for section, want := range tables {
		_, rest, ok := strings.Cut(page, "\n## "+section+"\n")
		if !ok {
			t.Fatalf("metrics.md has no section %q", section)
		}
		rest, _, _ = strings.Cut(rest, "\n## ")
		start := strings.Index(rest, "| name |")
		if start < 0 {
			t.Fatalf("section %q has no table", section)
		}
		have := rest[start:]
		if end := strings.Index(have, "\n\n"); end >= 0 {
			have = have[:end+1]
		}
		if have == want {
			continue
		}
		if !*rewrite {
			t.Errorf("section %q is out of date; run: go test ./docs -rewrite\nhave:\n%s\nwant:\n%s", section, have, want)
		}
		page = strings.Replace(page, have, want, 1)
	}
	if *rewrite {
		if err := os.WriteFile("metrics.md", []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
