package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/agent/router"
	"slipway/api"
)

func TestMetricsStayOnTheMachine(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "10.0.0.1:7423", "example.com:80", "127.0.0.1", "nonsense"} {
		l, err := listenMetrics(addr, log)
		if api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: %v, %v", addr, l, err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, addr := range []string{"", taken.Addr().String()} {
		if l, err := listenMetrics(addr, log); l != nil || err != nil {
			t.Errorf("%q: %v, %v; want to go on without", addr, l, err)
		}
	}
}

// TestServeMetrics scrapes a node and its router, before and after the router is there.
func TestServeMetrics(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	socket := filepath.Join(t.TempDir(), "router.sock")
	l, err := listenMetrics("127.0.0.1:0", log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- serveMetrics(ctx, l, newRegistry(), router.Dial(socket), log) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := client.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if status, body := get("/metrics"); status != 200 || !strings.Contains(body, "process_resident_memory_bytes ") {
		t.Errorf("node: %d %s", status, body)
	}
	if status, body := get("/metrics/router"); status != 503 || !strings.Contains(body, "router at ") {
		t.Errorf("no router: %d %s", status, body)
	}
	r, err := router.New(router.Config{HTTPAddr: "127.0.0.1:0", ControlSocket: socket})
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- r.Run(ctx) }()
	if status, body := get("/metrics/router"); status != 200 || !strings.Contains(body, "slipway_router_table_version 0\n") {
		t.Errorf("router: %d %s", status, body)
	}
	if status, _ := get("/"); status != 404 {
		t.Errorf("elsewhere: %d", status)
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
