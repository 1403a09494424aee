package rack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// exitMark precedes the exit status of a command in its output.
const exitMark = "F1E49A85-0AD7-4AEF-A618-C249C6E6568D:"

// convox speaks to a rack as the CLI of Convox does.
type convox struct {
	*rack
	base  string // of its URL
	token string
	http  *http.Client
}

func newConvox(r *rack) *convox {
	r.t.Helper()
	c := &convox{rack: r, http: r.client()}
	c.http.Timeout = 0 // streams last
	at, err := url.Parse(document[struct{ URL string }](r, "rack", "access", "--role", "admin", "--json").URL)
	if err != nil {
		r.t.Fatal(err)
	}
	c.base = "https://" + at.Host
	c.token, _ = at.User.Password()
	return c
}

// call makes a request and returns the answer, which has to be one of success.
func (c *convox) call(method, path string, form url.Values, headers ...string) string {
	c.t.Helper()
	status, text := c.try(method, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), headers...)
	if status != http.StatusOK {
		c.t.Fatalf("%s %s %v: %d %s", method, path, form, status, text)
	}
	return text
}

func (c *convox) try(method, path, kind string, body io.Reader, headers ...string) (int, string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	c.head(req.Header, headers)
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(b)
}

// head sets the headers of every request, and those of one.
func (c *convox) head(h http.Header, headers []string) {
	(&http.Request{Header: h}).SetBasicAuth("convox", c.token)
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
}

// socket sends input and its end on a websocket, and returns the output up to its end.
func (c *convox) socket(path, input string, headers ...string) string {
	c.t.Helper()
	h := http.Header{"Origin": {c.base}}
	c.head(h, headers)
	conn, _, err := websocket.Dial(c.t.Context(), c.base+path, &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: h})
	if err != nil {
		c.t.Fatalf("%s: %v", path, err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	if input != "" {
		_ = conn.Write(c.t.Context(), websocket.MessageText, []byte(input)) // the end of the output tells
	}
	_ = conn.Write(c.t.Context(), websocket.MessageBinary, nil)
	var text strings.Builder
	for {
		kind, b, err := conn.Read(c.t.Context())
		if err != nil {
			c.t.Fatalf("%s broke after %q: %v", path, text.String(), err)
		}
		if kind == websocket.MessageBinary {
			return text.String()
		}
		text.Write(b)
	}
}

// exec runs a command in a process or service, with no terminal, and returns its output and status.
func (c *convox) exec(app, process, command, input string, headers ...string) (out, code string) {
	c.t.Helper()
	text := c.socket("/apps/"+app+"/processes/"+process+"/exec", input, append([]string{"Command", command, "Tty", "false"}, headers...)...)
	text, first := strings.CutPrefix(text, exitMark+"125\n") // until there is another
	out, code, ok := strings.Cut(text, exitMark)
	if !first || !ok || !strings.HasSuffix(code, "\n") {
		c.t.Errorf("%s in %s: no exit status at the end of %q", command, process, text)
	}
	return out, strings.TrimSuffix(code, "\n")
}

// answerOf reads an answer.
func answerOf[T any](c *convox, text string) (v T) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		c.t.Fatalf("%v: %s", err, text)
	}
	return v
}

// thing has the fields of all answers that the test looks at.
type thing struct {
	ID, Name, URL, Status, Release, Build, Description, Env, Manifest, Domain, Instance, Command, Service string

	Count  int
	Memory float64 // MB, or a share
	Ports  []struct{ Balancer, Container int }
}

func (c *convox) get(path string) thing { return answerOf[thing](c, c.call("GET", path, nil)) }
func (c *convox) list(path string) []thing {
	return answerOf[[]thing](c, c.call("GET", path, nil))
}

// build is "convox build": the source goes up, and the log is followed to the end of the build.
func (c *convox) build(app, dir, description string) (build thing, log string) {
	c.t.Helper()
	status, text := c.try("POST", "/apps/"+app+"/objects/tmp/0123456789.tgz", "application/octet-stream", bytes.NewReader(sourceOf(c.t, dir)))
	if status != http.StatusOK {
		c.t.Fatalf("upload: %d %s", status, text)
	}
	at := answerOf[thing](c, text).URL
	b := answerOf[thing](c, c.call("POST", "/apps/"+app+"/builds", url.Values{"url": {at}, "description": {description}}))
	log = c.socket("/apps/"+app+"/builds/"+b.ID+"/logs", "")
	c.awaitState("end of the build", time.Minute, func() (string, bool) {
		build = c.get("/apps/" + app + "/builds/" + b.ID)
		return build.Status, build.Status != "created" && build.Status != "running"
	})
	if build.Status != "complete" || build.Release == "" {
		c.t.Fatalf("build %+v:\n%s", build, log)
	}
	return build, log
}

// promote is "convox releases promote", and waits as it does.
func (c *convox) promote(app, release string) {
	c.t.Helper()
	c.call("POST", "/apps/"+app+"/releases/"+release+"/promote", url.Values{})
	c.settled(app)
	if got := c.get("/apps/" + app).Release; got != release {
		c.t.Fatalf("release %s was promoted, %s is active:\n%s", release, got, c.must("", "why", "web", "-a", app))
	}
}

// settled waits until no deployment of an app is in progress.
func (c *convox) settled(app string) {
	c.t.Helper()
	c.awaitState("calm app", time.Minute, func() (string, bool) {
		status := c.get("/apps/" + app).Status
		return status, status == "running"
	})
}

// setEnv is "convox env set": the whole environment of the newest release with changes.
func (c *convox) setEnv(app string, changes map[string]string) (release string) {
	c.t.Helper()
	env := map[string]string{}
	for _, r := range c.list("/apps/" + app + "/releases?limit=1") {
		for line := range strings.Lines(c.get("/apps/" + app + "/releases/" + r.ID).Env) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			env[name] = value
		}
	}
	maps.Copy(env, changes)
	var lines []string
	for name, value := range env {
		lines = append(lines, name+"="+value)
	}
	return answerOf[thing](c, c.call("POST", "/apps/"+app+"/releases", url.Values{"env": {strings.Join(lines, "\n")}})).ID
}

// sourceOf is a directory as the CLI sends it.
func sourceOf(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestConvoxUsers does what users of Convox do, in the requests of their CLI.
func TestConvoxUsers(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.scale = "      cpu: 20\n      memory: 64\n"
	c := newConvox(r)
	defer c.http.CloseIdleConnections()
	src := r.source("shop", 1, "")
	c.call("POST", "/apps", url.Values{"name": {"shop"}})
	if a := c.get("/apps/shop"); a.Status != "running" {
		t.Errorf("a new app is %+v", a)
	}
	// env set from stdin, before there is a build
	c.setEnv("shop", map[string]string{"VERSION": "one", "KEPT": "yes"})
	build, log := c.build("shop", src, "cibuild")
	if build.Description != "cibuild" || !strings.Contains(log, "testapp") {
		t.Errorf("build %+v with the log:\n%s", build, log)
	}
	c.promote("shop", build.Release)
	t.Run("rack", c.rackIsDescribed)
	t.Run("registries", func(t *testing.T) { c.on(t).registries() })
	t.Run("releases", func(t *testing.T) { c.on(t).releases(build) })
	t.Run("commands", func(t *testing.T) { c.on(t).commands() })
	t.Run("copies", func(t *testing.T) { c.on(t).copies() })
	t.Run("cancel", func(t *testing.T) { c.on(t).cancels(src) })
	t.Run("neighbours", func(t *testing.T) { c.on(t).neighbours(src) })
	t.Run("scale", func(t *testing.T) { c.on(t).scales() })
	t.Run("moves", func(t *testing.T) { c.on(t).moves(build) })
	t.Run("archives", func(t *testing.T) { c.on(t).archives() })
	c.deleted("shop")
}

// on is the client of a part of the test.
func (c *convox) on(t *testing.T) *convox {
	part := *c
	part.rack = c.rack.on(t)
	return &part
}

func (c *convox) rackIsDescribed(t *testing.T) {
	c = c.on(t)
	if s := c.get("/system"); s.Status != "running" || s.Name == "" {
		t.Errorf("rack %+v", s)
	}
	if list := c.list("/instances"); len(list) != 1 || list[0].Status != "active" {
		t.Errorf("instances %+v", list)
	}
	contains(t, "rack logs", c.socket("/system/logs", "", "Follow", "false", "Since", "30m0s"), "service/rack/shop app.created shop by jwt-admin-", "deployment.started")
	if list := c.list("/system/processes"); len(list) != 1 || list[0].Service != "web" && list[0].Name != "web" {
		t.Errorf("rack ps %+v", list)
	}
	if list := c.list("/apps/shop/builds"); len(list) != 1 || list[0].Description != "cibuild" {
		t.Errorf("builds %+v", list)
	}
	logs := c.socket("/apps/shop/logs", "", "Follow", "false", "Prefix", "true", "Since", "20m0s")
	if !regexp.MustCompile(`(?m)^\S+Z service/web/p[a-z]{10} starting one$`).MatchString(logs) {
		t.Errorf("logs:\n%s", logs)
	}
}

// releases changes the environment, promotes it, reaches the service by its domain, and goes back.
func (c *convox) releases(build thing) {
	release := c.setEnv("shop", map[string]string{"VERSION": "two"})
	got := c.get("/apps/shop/releases/" + release)
	if got.Build != build.ID || got.Description != "env change:VERSION" || got.Env != "KEPT=yes\nVERSION=two" || !strings.Contains(got.Manifest, "build: .") {
		c.t.Errorf("release %+v", got)
	}
	c.promote("shop", release)
	service := c.list("/apps/shop/services")[0]
	resp, err := c.http.Get(fmt.Sprintf("https://%s:%d/", service.Domain, c.https))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "two GET 0\n" {
		c.t.Errorf("%s answers %q, %v", service.Domain, b, err)
	}
	// releases rollback: a release of the build and the environment of the old one
	old := c.get("/apps/shop/releases/" + build.Release)
	back := answerOf[thing](c, c.call("POST", "/apps/shop/releases", url.Values{"build": {old.Build}, "env": {old.Env}}))
	c.promote("shop", back.ID)
	c.settledAt(1)
	if list := c.list("/apps/shop/processes"); len(list) != 1 || list[0].Release != back.ID {
		c.t.Errorf("ps after the rollback to %s: %+v", back.ID, list)
	}
	if status, text := c.try("POST", "/apps/shop/releases/"+release+"/promote", "", nil); status != http.StatusConflict || !strings.Contains(text, "older") {
		c.t.Errorf("promotion of an older release: %d %s", status, text)
	}
}

// commands runs some: attached in a process of its own, which sleeps meanwhile, detached, and in a
// process of the service.
func (c *convox) commands() {
	run := answerOf[thing](c, c.call("POST", "/apps/shop/services/web/processes", nil, "Command", "sleep 3600"))
	c.awaitState("one-off", time.Minute, func() (string, bool) {
		p := c.get("/apps/shop/processes/" + run.ID)
		return p.Status, p.Status == "running"
	})
	through := []string{"Entrypoint", "true"}
	if out, code := c.exec("shop", run.ID, "env KEPT", "", through...); out != "" && out != "\n" || code != "0" {
		c.t.Errorf("a variable that the manifest does not declare is %q, %s", out, code)
	}
	if out, code := c.exec("shop", run.ID, "late 1", "", through...); out != "late\n" || code != "0" {
		c.t.Errorf("output after a while: %q, %s", out, code)
	}
	if out, code := c.exec("shop", "web", "copy", "what comes in\n", through...); out != "what comes in\n" || code != "0" {
		c.t.Errorf("input comes back as %q, %s", out, code)
	}
	for _, want := range []string{"0", "7", "255"} {
		if _, code := c.exec("shop", run.ID, "/testapp exit "+want, ""); code != want {
			c.t.Errorf("exit status %s instead of %s", code, want)
		}
	}
	if out, code := c.exec("shop", run.ID, "/nothing", ""); code == "0" || !strings.Contains(out, "/nothing") {
		c.t.Errorf("a command that is not there: %q, %s", out, code)
	}
	c.call("DELETE", "/apps/shop/processes/"+run.ID, nil)
	c.gone(run.ID)
	run = answerOf[thing](c, c.call("POST", "/apps/shop/services/web/processes", nil, "Command", "env VERSION"))
	c.awaitState("output of a detached run", time.Minute, func() (string, bool) {
		text := c.socket("/apps/shop/processes/"+run.ID+"/logs", "", "Follow", "false")
		return text, text == "one\n"
	})
}

// gone waits until a process is none of those that live.
func (c *convox) gone(id string) {
	c.t.Helper()
	c.awaitState("end of "+id, 30*time.Second, func() (string, bool) {
		list := c.list("/apps/shop/processes")
		return fmt.Sprintf("%+v", list), !slices.ContainsFunc(list, func(p thing) bool { return p.ID == id })
	})
}

// copies moves a file and a directory there and back.
func (c *convox) copies() {
	c.settledAt(1)
	web := c.list("/apps/shop/processes")[0].ID
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{"put/file": "shallow", "put/dir/file": "deep"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			c.t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	if err := w.Close(); err != nil {
		c.t.Fatal(err)
	}
	if status, text := c.try("POST", "/apps/shop/processes/"+web+"/files", "application/octet-stream", &b); status != http.StatusOK {
		c.t.Fatalf("copy in: %d %s", status, text)
	}
	for path, want := range map[string]string{"/put/file": "shallow", "/put/dir": "deep"} {
		in, found := tar.NewReader(strings.NewReader(c.call("GET", "/apps/shop/processes/"+web+"/files?file="+url.QueryEscape(path), nil))), ""
		for h, err := in.Next(); err == nil; h, err = in.Next() {
			if h.Typeflag == tar.TypeReg {
				text, _ := io.ReadAll(in)
				found += string(text)
			}
		}
		if found != want {
			c.t.Errorf("%s came back as %q", path, found)
		}
	}
	if status, text := c.try("GET", "/apps/shop/processes/"+web+"/files?file=%2Fnothing", "", nil); status != http.StatusNotFound || !strings.Contains(text, "/nothing") {
		c.t.Errorf("a file that is not there: %d %s", status, text)
	}
	c.call("DELETE", "/apps/shop/processes/"+web, nil)
	c.gone(web)
	c.settledAt(1)
}

// settledAt waits until so many copies run.
func (c *convox) settledAt(copies int) {
	c.t.Helper()
	c.awaitState(fmt.Sprint(copies, " copies"), time.Minute, func() (string, bool) {
		list := c.list("/apps/shop/processes")
		ready := len(list) == copies && !slices.ContainsFunc(list, func(p thing) bool { return p.Status != "running" })
		return fmt.Sprintf("%+v", list), ready && len(c.live("shop")) == copies
	})
}

// cancels deploys a release that never gets ready, and takes it back in the middle.
func (c *convox) cancels(src string) {
	before := c.get("/apps/shop").Release
	c.setEnv("shop", map[string]string{"MODE": "deaf", "KEPT": "still"})
	build, _ := c.build("shop", src, "never ready")
	c.call("POST", "/apps/shop/releases/"+build.Release+"/promote", url.Values{})
	c.call("POST", "/apps/shop/cancel", url.Values{})
	c.settled("shop")
	if now := c.get("/apps/shop").Release; now != before {
		c.t.Errorf("release %s is active after the cancelled deployment, it was %s", now, before)
	}
	if got := c.rack.get("shop"); got != "one GET 0\n" {
		c.t.Errorf("the app answers %q", got)
	}
	if env := c.get("/apps/shop/releases/" + c.list("/apps/shop/releases")[0].ID).Env; env != "KEPT=still\nMODE=deaf\nVERSION=one" {
		c.t.Errorf("the environment after the cancelled deployment is %q", env)
	}
	c.setEnv("shop", map[string]string{"MODE": ""})
}

// neighbours reaches one app from another.
func (c *convox) neighbours(src string) {
	c.call("POST", "/apps", url.Values{"name": {"next"}})
	c.setEnv("next", map[string]string{"VERSION": "neighbour"})
	build, _ := c.build("next", src, "")
	c.promote("next", build.Release)
	name := c.get("/system").Name
	out, code := c.exec("shop", "web", "get http://web.next."+name+".local:3000/", "", "Entrypoint", "true")
	if out != "neighbour GET 0\n" || code != "0" {
		c.t.Errorf("the other app answers %q, %s", out, code)
	}
	c.call("DELETE", "/apps/next", nil)
}

// scales the service, which sees it at once.
func (c *convox) scales() {
	c.call("PUT", "/apps/shop/services/web", url.Values{"count": {"2"}, "cpu": {"30"}, "memory": {"80"}})
	c.settledAt(2)
	s := c.list("/apps/shop/services")[0]
	balanced := slices.ContainsFunc(s.Ports, func(p struct{ Balancer, Container int }) bool { return p.Balancer == c.https && p.Container == 3000 })
	if s.Count != 2 || s.Memory != 80 || !balanced {
		c.t.Errorf("service %+v", s)
	}
	c.call("POST", "/apps/shop/services/web/restart", nil)
	c.settledAt(2)
}
