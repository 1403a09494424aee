package rest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/client"
)

// Sources reads what was uploaded.
type Sources interface {
	Open(ctx context.Context, digest string) (io.ReadCloser, error)
}

// Config is what a handler is made of.
type Config struct {
	// Conn carries calls of the control API. It adds no credentials.
	Conn    grpc.ClientConnInterface
	Sources Sources
	Now     func() time.Time
	Log     *slog.Logger
}

// API is the handler.
type API struct {
	cfg  Config
	mux  *http.ServeMux
	safe http.Handler
}

// New returns the handler of every route.
func New(cfg Config) *API {
	a := &API{cfg: cfg, mux: http.NewServeMux()}
	byPattern := map[string][]route{}
	for _, rt := range routes() {
		byPattern[rt.pattern()] = append(byPattern[rt.pattern()], rt)
	}
	for pattern, rows := range byPattern {
		a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { a.answer(w, r, choose(rows, r)) })
	}
	description := openAPI()
	a.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(description)
	})
	a.mux.HandleFunc("/", a.noRoute)
	// A page in a browser that knows the password must not be able to use it.
	a.safe = http.NewCrossOriginProtection().Handler(a.mux)
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.RequestURI == "*" { // the mux would refuse it without a word
		a.noRoute(w, r)
		return
	}
	a.safe.ServeHTTP(w, r)
}

// choose returns the route among those that the mux cannot tell apart.
func choose(rows []route, r *http.Request) *route {
	archive := strings.HasSuffix(r.URL.Path, ".tgz")
	if i := slices.IndexFunc(rows, func(rt route) bool { return rt.archive() == archive }); i >= 0 {
		return &rows[i]
	}
	return &rows[0]
}

// call is one request on its way.
type call struct {
	context.Context //nolint:containedctx // a call is a context with what was asked for.

	w       http.ResponseWriter
	r       *http.Request
	id      string
	rack    *client.Client // as the caller
	sources Sources
	now     func() time.Time
	args    map[string]any
	socket  *socket   // of a websocket, once it is open
	input   io.Reader // what its client sends
}

// answer serves a request by its route.
func (a *API) answer(w http.ResponseWriter, r *http.Request, rt *route) {
	id := requestID()
	w.Header().Set("Request-Id", id)
	err := a.serve(w, r, rt, id)
	if err == nil {
		return
	}
	code := statusOf(err)
	log := a.cfg.Log.With("request", id, "method", rt.method, "path", r.URL.Path, "status", code)
	if code == http.StatusInternalServerError {
		log.Error("request failed", "err", err)
	} else {
		log.Debug("request refused", "err", err)
	}
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="slipway"`)
	}
	http.Error(w, sentence(err, id), code)
}

// serve finds out who asks for what, and does it. A returned error was not told to the caller yet.
func (a *API) serve(w http.ResponseWriter, r *http.Request, rt *route, id string) error {
	_, secret, ok := r.BasicAuth()
	if !ok || secret == "" {
		return &refusal{http.StatusUnauthorized, "the request carries no token; set RACK_URL to https://convox:TOKEN@HOST:PORT, with a token of: slipway tokens create"}
	}
	c := &call{
		Context: r.Context(), w: w, r: r, id: id, sources: a.cfg.Sources, now: a.cfg.Now,
		rack: client.New(&gate{a.cfg.Conn, secret, rt.calls}),
	}
	var err error
	if rt.missing != "" {
		err = missing("%s", rt.missing)
	} else {
		c.args, err = arguments(w, r, rt)
	}
	switch isSocket := rt.method == socketMethod; {
	case isSocket && strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		if denied := a.known(c, secret); denied != nil {
			return denied
		}
		return a.serveSocket(c, rt, err)
	case isSocket && err == nil:
		err = &refusal{http.StatusUpgradeRequired, r.URL.Path + " is a websocket; ask for it with the header Upgrade: websocket"}
	case err == nil:
		err = rt.serve(c)
	}
	if err == nil || fromRack(err) {
		return err
	}
	// What is wrong here is only for those to read whom the rack knows; it was not asked yet.
	if denied := a.known(c, secret); denied != nil {
		return denied
	}
	return err
}

// known asks the rack whether it knows the token.
func (a *API) known(ctx context.Context, secret string) error {
	_, err := client.New(&gate{a.cfg.Conn, secret, []string{"GetRack"}}).Rack(ctx)
	return err
}

// noRoute answers what no route is for.
func (a *API) noRoute(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Request-Id", requestID())
	var methods []string
	for _, rt := range routes() {
		if method, _, _ := strings.Cut(rt.pattern(), " "); matches(rt.path, r.URL.Path) && !slices.Contains(methods, method) {
			methods = append(methods, method)
		}
	}
	if len(methods) > 0 {
		slices.Sort(methods)
		w.Header().Set("Allow", strings.Join(methods, ", "))
		http.Error(w, fmt.Sprintf("%s does not take %s, but %s", clip(r.URL.Path), clip(r.Method), strings.Join(methods, ", ")), http.StatusMethodNotAllowed)
		return
	}
	http.Error(w, fmt.Sprintf("there is no %s; /openapi.json describes what there is", clip(r.URL.Path)), http.StatusNotFound)
}

// matches reports whether a path is one of a route.
func matches(route, path string) bool {
	want, have := strings.Split(route, "/"), strings.Split(path, "/")
	for i, segment := range want {
		if strings.HasSuffix(segment, "...}") {
			return len(have) > i
		}
		if i >= len(have) || !strings.HasPrefix(segment, "{") && segment != have[i] {
			return false
		}
	}
	return len(want) == len(have)
}

// json answers with a value.
func (c *call) json(v any, err error) error {
	if err != nil {
		return err
	}
	doc, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Write(append(doc, '\n')) // who does not read to the end has gone
	return nil
}

// ok answers that it is done.
func (c *call) ok(err error) error {
	if err != nil {
		return err
	}
	io.WriteString(c.w, "ok\n")
	return nil
}

// stream answers with bytes. What breaks after the first of them breaks the connection: an answer
// that looks whole is whole.
func (c *call) stream(write func(w io.Writer) error) error {
	out := &counter{w: c.w}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	err := write(out)
	if err == nil || !out.written {
		return err
	}
	panic(http.ErrAbortHandler)
}

// counter notes whether anything was written.
type counter struct {
	w       io.Writer
	written bool
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	c.written = c.written || len(p) > 0
	return c.w.Write(p)
}

// app returns the app that the path names.
func (c *call) app() api.AppName { return api.AppName(c.text("app")) }

// requestID draws what a request is called in the log.
func requestID() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails, by its contract
	return hex.EncodeToString(b)
}

// errGone is the end of a stream that nobody reads any more, which is no failure.
var errGone = errors.New("the client went away")
