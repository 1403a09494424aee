package router

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"slipway/api"
)

// The bounds of the control protocol.
const (
	tableBytesMax       = 256 << 20
	certificateBytesMax = 1 << 20
	waitMax             = time.Minute // of one long poll
)

// report is the answer to /status and /table.
type report struct {
	// Revision moves whenever the status changed in a way that is worth telling: a table came
	// into force, a target drained.
	Revision uint64           `json:"revision"`
	Status   api.RouterStatus `json:"status"`
}

// controlServer serves the control socket until close, also what a successor asks of a router that
// has handed over. Long polls end with ctx.
func (r *Router) controlServer(ctx context.Context) *server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", r.handle(r.getStatus))
	mux.HandleFunc("PUT /table", r.handle(r.putTable))
	mux.HandleFunc("GET /table", r.handle(func(*http.Request) (any, error) { return r.table.Load().spec, nil }))
	mux.HandleFunc("PUT /certificates/{name}", r.handle(r.putCertificate))
	mux.HandleFunc("DELETE /certificates/{name}", r.handle(r.deleteCertificate))
	mux.HandleFunc("POST /handover", r.handOver)
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.cfg.Registry, promhttp.HandlerOpts{}))
	return &server{listener: r.listeners.control, http: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerReadMax,
		ErrorLog:          log.New(io.Discard, "", 0),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}}
}

// handle turns a function into a handler that speaks JSON.
func (r *Router) handle(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		answer, err := f(req)
		status := http.StatusOK
		if err != nil {
			var known *api.Error
			if !errors.As(err, &known) {
				known = api.Errorf(api.CodeInternal, "router: %w", err)
			}
			status, answer = statusOf(known.Code), known
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func statusOf(code api.Code) int {
	switch code {
	case api.CodeInvalid:
		return http.StatusBadRequest
	case api.CodeConflict:
		return http.StatusConflict
	case api.CodeNotFound:
		return http.StatusNotFound
	default:
		return http.StatusInternalServerError
	}
}

func (r *Router) putTable(req *http.Request) (any, error) {
	var t api.RouteTable
	if err := json.NewDecoder(io.LimitReader(req.Body, tableBytesMax)).Decode(&t); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "route table: %w", err)
	}
	if err := r.Apply(t); err != nil {
		return nil, err
	}
	r.relay(req.Context(), t)
	return r.report(), nil
}

// getStatus answers at once, or, with ?after, when the revision is another.
func (r *Router) getStatus(req *http.Request) (any, error) {
	q := req.URL.Query()
	if !q.Has("after") {
		return r.report(), nil
	}
	after, err := strconv.ParseUint(q.Get("after"), 10, 64)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "after=%q is not a revision", q.Get("after"))
	}
	wait, err := time.ParseDuration(q.Get("wait"))
	if err != nil && q.Has("wait") {
		return nil, api.Errorf(api.CodeInvalid, "wait=%q is not a duration", q.Get("wait"))
	}
	r.await(req.Context(), after, min(wait, waitMax))
	return r.report(), nil
}

// await returns when the revision is not after, at the latest after the wait.
func (r *Router) await(ctx context.Context, after uint64, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	r.mu.Lock()
	revision, news := r.revision, r.news
	r.mu.Unlock()
	if revision != after {
		return
	}
	select {
	case <-news:
	case <-ctx.Done():
	}
}

func (r *Router) report() report {
	// The revision is read first: a change between the two makes the next poll return at once.
	revision := r.revisionNow()
	return report{Revision: revision, Status: r.Status()}
}

func (r *Router) putCertificate(req *http.Request) (any, error) {
	b, err := io.ReadAll(io.LimitReader(req.Body, certificateBytesMax))
	if err != nil {
		return nil, err
	}
	return struct{}{}, r.storeCertificate(req.PathValue("name"), b)
}

func (r *Router) deleteCertificate(req *http.Request) (any, error) {
	return struct{}{}, r.removeCertificate(req.PathValue("name"))
}
