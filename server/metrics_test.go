package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/machine"
	"slipway/raftstore/state"
	"slipway/server/auth"
)

// serve runs a new rack of one server until the test ends.
func serve(t *testing.T) *Server {
	t.Helper()
	s, err := New(t.Context(), Config{
		Dir: t.TempDir(), Bootstrap: true, Rack: "test", Domain: "test", Alone: true, Log: slog.New(slog.DiscardHandler),
		GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", RaftAddr: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not become ready")
	}
	return s
}

// series returns the value of a series in Prometheus text, or -1.
func series(text, name string) float64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			if v, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return v
			}
		}
	}
	return -1
}

func TestMetrics(t *testing.T) {
	s := serve(t)
	if _, err := s.store.Propose(t.Context(), s.entry(state.CreateApp{App: api.App{Name: "shop"}})); err != nil {
		t.Fatal(err)
	}
	trust, err := machine.NewTrust(s.Trust())
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Client()}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	var text string
	want := map[string]float64{
		"slipway_leader": 1, "slipway_apps": 1, `slipway_processes{state="running"}`: 0, `slipway_nodes{status="ready"}`: 0,
		"slipway_services_waiting": 0,
	}
	some := []string{"slipway_raft_applied_index", "slipway_raft_commit_seconds_count", "slipway_loop_pass_seconds_count"}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // polls
		resp, err := client.Get("https://" + s.HTTPAddr() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s %v", resp.Status, err)
		}
		text = string(b)
		ok := true
		for name, v := range want {
			ok = ok && series(text, name) == v
		}
		for _, name := range some {
			ok = ok && series(text, name) > 0
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("want %v and some of %q in\n%s", want, some, text)
		}
	}
}

// TestPlansAreMeasured counts what a pass decides.
func TestPlansAreMeasured(t *testing.T) {
	s := serve(t)
	s.metrics.proposed([]state.Entry{
		{Command: state.ApplyPlan{Place: []api.Group{{Copies: make([]api.Copy, 7)}}, Stop: make([]api.Stop, 2)}}, {Command: state.SetReady{}}, {Command: state.SetReady{}},
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.RemoteAddr = "127.0.0.1:1"
	s.routes().ServeHTTP(w, r)
	for name, v := range map[string]float64{
		`slipway_plan_processes_sum{move="place"}`: 7, `slipway_plan_processes_sum{move="stop"}`: 2,
		`slipway_loop_commands_total{command="set_ready"}`: 2, `slipway_loop_commands_total{command="apply_plan"}`: 1,
	} {
		if got := series(w.Body.String(), name); got != v {
			t.Errorf("%s is %v, want %v", name, got, v)
		}
	}
}

// TestMetricsAreForFriends: the machine itself, and tokens that may read every app.
func TestMetricsAreForFriends(t *testing.T) {
	s := serve(t)
	secrets := map[string]string{"": "", "nonsense": "nonsense"}
	for name, token := range map[string]state.Token{
		"viewer": {Role: auth.RoleViewer}, "viewer of one app": {Role: auth.RoleViewer, Apps: []api.AppName{"shop"}}, "join": {Role: auth.RoleJoinAgent},
	} {
		secret := auth.NewSecret()
		token.ID, token.Name, token.Hash, token.Created = strings.ReplaceAll(name, " ", "-"), name, auth.Hash(secret), time.Now()
		if res, err := s.store.Propose(t.Context(), s.entry(state.PutToken{Token: token})); err != nil || res.Err != nil {
			t.Fatal(err, res.Err)
		}
		secrets[name] = secret
	}
	for _, role := range []string{AdminTokenFile, JoinAgentTokenFile} {
		b, err := os.ReadFile(filepath.Join(s.cfg.Dir, role))
		if err != nil {
			t.Fatal(err)
		}
		secrets[role] = string(b)
	}
	may := map[string]bool{"viewer": true, AdminTokenFile: true}
	for name, secret := range secrets {
		for _, remote := range []string{"203.0.113.5:1000", "10.88.0.7:1000", "[2001:db8::1]:1", "127.0.0.1:1000", "[::1]:1000"} {
			r := httptest.NewRequest("GET", "/metrics", nil)
			r.RemoteAddr = remote
			want := may[name] || secret == "" && (strings.HasPrefix(remote, "127.") || strings.HasPrefix(remote, "[::1]"))
			if secret != "" {
				r.Header.Set("Authorization", "Bearer "+secret)
			}
			r.Header.Set("X-Forwarded-For", "127.0.0.1")
			w := httptest.NewRecorder()
			s.routes().ServeHTTP(w, r)
			if got := w.Code == 200; got != want || !got && w.Code != http.StatusUnauthorized {
				t.Errorf("token %q from %s: status %d", name, remote, w.Code)
			}
		}
	}
}
