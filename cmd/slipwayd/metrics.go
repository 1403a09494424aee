package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"slipway/api"
)

// newRegistry is a registry that knows the process itself.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// listenMetrics opens the address of a node's metrics, nil for none. They name apps and
// services, so that nobody from outside may read them. An address that somebody else has is no
// reason not to run: it is said, and there are none.
func listenMetrics(addr string, log *slog.Logger) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, api.Errorf(api.CodeInvalid, "--metrics-addr %q is not a loopback address with a port, such as 127.0.0.1:7423; to read metrics from another machine, put a proxy that authenticates before it", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		log.Warn("metrics not served; choose another address with --metrics-addr", "err", err)
		return nil, nil
	}
	return l, nil
}

// routerMetrics asks the router of the node for its metrics.
type routerMetrics interface {
	Metrics(ctx context.Context) ([]byte, error)
}

// serveMetrics serves what the node measures, and what its router does, until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, node *prometheus.Registry, router routerMetrics, log *slog.Logger) error {
	if l == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(node, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /metrics/router", func(w http.ResponseWriter, r *http.Request) {
		text, err := router.Metrics(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(text) // a reader that leaves loses nothing
	})
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
