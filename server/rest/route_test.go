package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"slipway/api/pb"
)

// TestRoutesAreWhole looks at every row of the table: one that names no call of the control API
// would be authorised by nobody.
func TestRoutesAreWhole(t *testing.T) {
	known := map[string]bool{}
	for _, m := range pb.Control_ServiceDesc.Methods {
		known[m.MethodName] = true
	}
	for _, s := range pb.Control_ServiceDesc.Streams {
		known[s.StreamName] = true
	}
	seen := map[string]bool{}
	for _, rt := range routes() {
		name := rt.method + " " + rt.path
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if rt.missing == "" && (len(rt.calls) == 0 || rt.serve == nil) {
			t.Errorf("%s makes no call or has no handler", name)
		}
		for _, call := range rt.calls {
			if !known[call] {
				t.Errorf("%s: the control API has no %s", name, call)
			}
		}
		if rt.summary == "" || !slices.Contains([]string{rightRead, rightDeploy, rightAdmin}, rt.right) {
			t.Errorf("%s: summary %q, right %q", name, rt.summary, rt.right)
		}
		for _, p := range rt.all() {
			if p.doc == "" || p.in == inForm && rt.body != "" {
				t.Errorf("%s: parameter %s has no doc, or no place", name, p.name)
			}
			if p.in == inHeader && http.CanonicalHeaderKey(p.name) != p.name {
				t.Errorf("%s: header %s is written %s", name, p.name, http.CanonicalHeaderKey(p.name))
			}
		}
	}
}

// stub is a control API that knows one token, "good", and fails every call but GetRack.
type stub struct{ calls []string }

func (s *stub) Invoke(ctx context.Context, method string, _, reply any, _ ...grpc.CallOption) error {
	if err := admit(ctx); err != nil {
		return err
	}
	if strings.HasSuffix(method, "/GetRack") {
		reply.(*pb.Document).Json = []byte(`{"name":"test"}`)
		return nil
	}
	s.calls = append(s.calls, method)
	return status.Error(codes.NotFound, `app "x" not found; list what there is: slipway apps`)
}

func admit(ctx context.Context) error {
	md, _ := metadata.FromOutgoingContext(ctx)
	if !slices.Equal(md.Get("authorization"), []string{"Bearer good"}) {
		return status.Error(codes.Unauthenticated, "the token is not known to this rack")
	}
	return nil
}

func (s *stub) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := admit(ctx); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.NotFound, `app "x" not found; list what there is: slipway apps`)
}

// handler returns an API in front of a stub.
func handler() (*API, *stub) {
	s := &stub{}
	return New(Config{Conn: s, Now: time.Now, Log: slog.New(slog.DiscardHandler)}), s
}

// sample is a request that a route takes: every required parameter, and those that are named.
func sample(rt *route, with map[string]string) *http.Request {
	target, query, form, header := rt.path, url.Values{}, url.Values{}, http.Header{}
	for _, p := range rt.all() {
		value, given := with[p.name]
		if !given && !p.required {
			continue
		}
		if !given {
			value = map[kind]string{kindNumber: fmt.Sprint(max(p.least, 1)), kindBool: "true", kindDuration: "1m"}[p.kind]
			if value == "" {
				value = "x"
			}
		}
		switch p.in {
		case inPath:
			if p.name == "key" && value == "x" {
				value = "tmp/x"
			}
			target = strings.NewReplacer("{"+p.name+"}", url.PathEscape(value), "{"+p.name+"...}", strings.ReplaceAll(url.PathEscape(value), "%2F", "/")).Replace(target)
		case inQuery:
			query.Set(p.name, value)
		case inForm:
			form.Set(p.name, value)
		case inHeader:
			header.Set(p.name, value)
		}
	}
	method, _, _ := strings.Cut(rt.pattern(), " ")
	var body io.Reader
	if rt.body != "" {
		body = strings.NewReader("bytes")
	}
	if len(form) > 0 {
		body = strings.NewReader(form.Encode())
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r := httptest.NewRequest(method, target+"?"+query.Encode(), body)
	for name := range header {
		r.Header[name] = header[name]
	}
	r.SetBasicAuth("convox", "good")
	return r
}

func serve(a http.Handler, r *http.Request) (int, string) {
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// TestBadArguments sends every parameter of every route in every wrong form: the answer is a status
// and a sentence, and the rack is not asked.
func TestBadArguments(t *testing.T) {
	for _, rt := range routes() {
		if rt.missing != "" {
			continue
		}
		for _, p := range rt.all() {
			type bad struct {
				value, says string
				code        int
			}
			var list []bad
			most := p.most
			if most == 0 {
				most = textMax
			}
			switch {
			case p.missing:
				list = []bad{{"1", "not supported", 501}}
			case p.kind == kindNumber:
				list = []bad{{"many", "no whole number", 400}, {"99999999999", "is not within", 400}, {"-1", "is not within", 400}, {"1e3", "no whole number", 400}}
			case p.kind == kindBool:
				list = []bad{{"maybe", "neither true nor false", 400}}
			case p.kind == kindDuration:
				list = []bad{{"soon", "is no duration", 400}, {"-2m", "is no duration", 400}}
			case p.in == inPath || p.in == inQuery:
				list = []bad{{strings.Repeat("x", most+1), "the limit is", 413}, {"\xff\x00", "is not text", 400}}
			default:
				list = []bad{{strings.Repeat("x", most+1), "the limit is", 413}}
			}
			if p.required && p.in != inPath {
				list = append(list, bad{"", "parameter required: " + p.name, 400})
			}
			for _, b := range list {
				if p.name == "key" && b.value[0] != 'x' {
					continue
				}
				a, s := handler()
				code, text := serve(a, sample(&rt, map[string]string{p.name: b.value}))
				if code != b.code || !strings.Contains(text, b.says) || len(s.calls) > 0 {
					t.Errorf("%s %s with %s %.20q: %d %.200s, calls %q", rt.method, rt.path, p.name, b.value, code, text, s.calls)
				}
			}
		}
	}
}

// TestEveryRoute asks for everything about an app that is not there: those without a token learn
// nothing else, and the rack's own sentence comes through.
func TestEveryRoute(t *testing.T) {
	for _, rt := range routes() {
		a, _ := handler()
		r := sample(&rt, nil)
		r.Header.Del("Authorization")
		if code, text := serve(a, r); code != 401 || !strings.Contains(text, "carries no token") {
			t.Errorf("%s %s without a token: %d %s", rt.method, rt.path, code, text)
		}
		r = sample(&rt, nil)
		r.SetBasicAuth("convox", "bad")
		if code, text := serve(a, r); code != 401 || !strings.Contains(text, "not known") {
			t.Errorf("%s %s with a bad token: %d %s", rt.method, rt.path, code, text)
		}
		code, text := serve(a, sample(&rt, nil))
		want, says := 404, "no such app: "
		switch {
		case rt.missing != "":
			want, says = 501, rt.missing
		case rt.method == socketMethod:
			want, says = 426, "websocket"
		case slices.Contains(rt.calls, "GetRack"):
			want, says = 200, ""
		case rt.path == "/apps/{app}/builds" && rt.method == "POST", rt.path == "/system/jwt/token":
			want, says = 400, "parameter"
		}
		if code != want || !strings.Contains(text, says) {
			t.Errorf("%s %s: %d %s, want %d", rt.method, rt.path, code, text, want)
		}
	}
}

func TestNoRoute(t *testing.T) {
	a, _ := handler()
	for target, want := range map[string]struct {
		method, says, allow string
		code                int
	}{
		"/":                       {"GET", "there is no /", "", 404},
		"/apps/a/nothing":         {"GET", "/openapi.json", "", 404},
		"/apps/a":                 {"PATCH", "does not take PATCH", "DELETE, GET, PUT", 405},
		"/apps/a/builds/b.tgz":    {"POST", "does not take POST", "GET, PUT", 405},
		"/apps/a/objects/tmp/x/y": {"PUT", "does not take PUT", "DELETE, GET, HEAD, POST", 405},
	} {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest(want.method, target, nil))
		if w.Code != want.code || !strings.Contains(w.Body.String(), want.says) || w.Header().Get("Allow") != want.allow || w.Header().Get("Request-Id") == "" {
			t.Errorf("%s %s: %d %s %v", want.method, target, w.Code, w.Body, w.Header())
		}
	}
}

// TestForms sends what is no form to a route that takes one.
func TestForms(t *testing.T) {
	a, _ := handler()
	for name, c := range map[string]struct {
		kind, body, says string
		code             int
	}{
		"json":      {"application/json", `{"name":"x"}`, "application/x-www-form-urlencoded", 415},
		"no type":   {"", "name=x", "application/x-www-form-urlencoded", 415},
		"escapes":   {"application/x-www-form-urlencoded", "name=%zz", "cannot be read", 400},
		"oversized": {"application/x-www-form-urlencoded", "name=" + strings.Repeat("x", formMax), "larger than", 413},
		"empty":     {"application/octet-stream", "", "parameter required: name", 400},
	} {
		r := httptest.NewRequest("POST", "/apps?", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		r.SetBasicAuth("jwt", "good")
		if code, text := serve(a, r); code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
}

// TestOtherOrigins turns pages of other sites away, whose browser knows the password.
func TestOtherOrigins(t *testing.T) {
	a, s := handler()
	r := httptest.NewRequest("DELETE", "/apps/x", nil)
	r.SetBasicAuth("convox", "good")
	r.Header.Set("Origin", "https://evil.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if code, _ := serve(a, r); code != http.StatusForbidden || len(s.calls) > 0 {
		t.Errorf("a page of another site: %d, calls %q", code, s.calls)
	}
}

// TestGate refuses a call that its route does not name.
func TestGate(t *testing.T) {
	g := &gate{&stub{}, "good", []string{"GetApp"}}
	if err := g.Invoke(t.Context(), pb.Control_DeleteApp_FullMethodName, nil, nil); err == nil || !strings.Contains(err.Error(), "does not name") {
		t.Errorf("a call that the route does not name: %v", err)
	}
	if _, err := g.NewStream(t.Context(), nil, pb.Control_Session_FullMethodName); err == nil || !strings.Contains(err.Error(), "does not name") {
		t.Errorf("a stream that the route does not name: %v", err)
	}
}

func TestOpenAPI(t *testing.T) {
	a, _ := handler()
	r := httptest.NewRequest("GET", "/openapi.json", nil)
	code, text := serve(a, r)
	var described struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal([]byte(text), &described); err != nil || code != 200 {
		t.Fatalf("%d %v", code, err)
	}
	ids := map[string]bool{}
	for _, rt := range routes() {
		method, _, _ := strings.Cut(rt.pattern(), " ")
		raw := described.Paths[strings.ReplaceAll(rt.path, "...}", "}")][strings.ToLower(method)]
		var op struct {
			OperationID string
			Parameters  []struct{ Name string }
		}
		if err := json.Unmarshal(raw, &op); err != nil {
			t.Errorf("%s %s is not described: %v", rt.method, rt.path, err)
		}
		if ids[op.OperationID] {
			t.Errorf("%s is there twice", op.OperationID)
		}
		ids[op.OperationID] = true
		for _, p := range rt.all() {
			if !bytes.Contains(raw, []byte(fmt.Sprintf("%q", p.name))) {
				t.Errorf("%s %s: parameter %s is not described", rt.method, rt.path, p.name)
			}
		}
	}
	for _, name := range []string{"app", "build", "release", "process", "service", "instance", "system"} {
		if described.Components.Schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
}
