package bubble

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"slipway/api"
	"slipway/api/client"
	"slipway/server"
	"slipway/server/rest"
)

// convox is a client of the rack API of Convox. It sends what the CLI of Convox sends.
type convox struct {
	r      *rack
	http   *http.Client
	tokens map[string]string   // by what they may do, and "other" for one of another app
	rows   map[string]rest.Row // of the table
	asked  map[string]bool     // rows of the table
	known  map[string]string
}

func newConvox(r *rack) *convox {
	c := &convox{
		r: r, tokens: map[string]string{}, rows: map[string]rest.Row{}, asked: map[string]bool{}, known: map[string]string{},
		http: &http.Client{Transport: &http.Transport{
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return r.dial(ctx, httpAddr) },
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}},
	}
	for _, row := range rest.Table() {
		c.rows[row.Method+" "+row.Path] = row
	}
	// The tokens of the day are made as "convox rack access" makes them.
	c.tokens["administer"] = strings.TrimSpace(r.file(server.AdminTokenFile))
	for right, role := range map[string]string{"read": "r", "deploy": "rw"} {
		c.do(ask{row: "POST /system/jwt/token", form: url.Values{"role": {role}, "durationInHour": {"1"}}, want: `^{"token":"(slip_[a-z0-9]+)"}\n$`, learn: "token"})
		c.tokens[right] = c.known["token"]
	}
	return c
}

// ask is one request, and what is expected of its answer.
type ask struct {
	row     string            // of the table
	path    string            // with {names} of what earlier answers told; "" is the row's
	form    url.Values        // nil sends none
	query   string            // as it stands after the "?"
	headers map[string]string // as the options of the CLI travel
	body    string
	as      string // the right of the caller; "" is that of the row
	status  int    // 0 is 200
	want    string // what the answer matches
	learn   string // the first group of want is known by this name
}

// fill puts what is known in the place of {names}.
func (c *convox) fill(text string) string {
	for name, value := range c.known {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

// request is what is sent of an ask.
func (c *convox) request(a ask) (method, target string, h http.Header, body string) {
	method, path, _ := strings.Cut(a.row, " ")
	if a.path != "" {
		path = a.path
	}
	h = http.Header{"Accept": {"*/*"}, "Content-Type": {"application/octet-stream"}, "User-Agent": {"convox.go/dev"}, "Version": {"dev"}, "Session": {""}}
	for name, value := range a.headers {
		h.Set(name, c.fill(value))
	}
	body = a.body
	if a.form != nil {
		h.Set("Content-Type", "application/x-www-form-urlencoded")
		form := url.Values{}
		for name, values := range a.form {
			form.Set(name, c.fill(values[0]))
		}
		body = form.Encode()
	}
	return method, "https://" + httpAddr + c.fill(path) + "?" + a.query, h, body
}

// do makes a request as the least of those who may, and compares the answer. Those who may not have
// asked before, and were refused.
func (c *convox) do(a ask) string {
	c.r.t.Helper()
	row := c.rows[a.row]
	if row.Path == "" {
		c.r.t.Fatalf("the table has no %s", a.row)
	}
	c.asked[a.row] = true
	if a.status == 0 && !strings.Contains(a.want, "ERROR") {
		a.status = http.StatusOK
		c.refused(a, row)
	}
	if a.as == "" {
		a.as = row.Right
	}
	status, text := c.send(a, c.tokens[a.as])
	m := regexp.MustCompile(c.fill(a.want)).FindStringSubmatch(text)
	if row.Method == "SOCKET" {
		a.status = http.StatusSwitchingProtocols
	}
	if status != a.status || m == nil {
		c.r.t.Errorf("%s %s %v: %d %s\nwant %d %s", a.row, c.fill(a.path), a.form, status, text, a.status, a.want)
		return text
	}
	if a.learn != "" {
		c.known[a.learn] = m[1]
	}
	return text
}

// refused makes a request as everybody who may not make it. The rack must not do it: the day goes
// on as if nobody had asked.
func (c *convox) refused(a ask, row rest.Row) {
	c.r.t.Helper()
	callers := map[string]string{"nobody": "", "read": "may not (deploy|administer)", "deploy": "may not administer", "other": `does not reach app "shop"`}
	for caller, says := range callers {
		switch {
		case caller == "read" && row.Right == "read", caller == "deploy" && row.Right != "administer",
			caller == "other" && (!strings.HasPrefix(a.path, "/apps/shop") || row.Right == "administer"):
			continue
		}
		token, given := c.tokens[caller]
		if !given && caller != "nobody" {
			continue
		}
		status, text := c.send(a, token)
		want := http.StatusForbidden
		switch {
		case caller == "nobody":
			want, says = http.StatusUnauthorized, "carries no token"
		case row.Method == "SOCKET":
			want, says = http.StatusSwitchingProtocols, "^("+unknown+")?ERROR: .*"+says
		}
		if status != want || !regexp.MustCompile(says).MatchString(text) {
			c.r.t.Errorf("%s %s by %s: %d %s, want %d %s", a.row, c.fill(a.path), caller, status, text, want, says)
		}
	}
}

// send makes a request with a token, and returns the status and the text of the answer.
func (c *convox) send(a ask, token string) (int, string) {
	c.r.t.Helper()
	method, target, h, body := c.request(a)
	req, err := http.NewRequestWithContext(c.r.ctx, method, target, strings.NewReader(body))
	if err != nil {
		c.r.t.Fatal(err)
	}
	req.Header = h
	// Whoever the user is: it is the token that counts.
	req.SetBasicAuth([]string{"convox", "jwt"}[len(a.row)%2], token)
	if method == "SOCKET" {
		return c.socket(target, req.Header, body)
	}
	return c.plain(req)
}

func (c *convox) plain(req *http.Request) (int, string) {
	c.r.t.Helper()
	resp, err := c.http.Do(req)
	if err != nil {
		c.r.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Request-Id") == "" {
		c.r.t.Errorf("%s %s: %v, headers %v", req.Method, req.URL, err, resp.Header)
	}
	kind := "application/json"
	if strings.Contains(req.URL.Path, "/builds/") && strings.HasSuffix(req.URL.Path, ".tgz") {
		kind = "application/octet-stream"
	}
	if resp.StatusCode != http.StatusOK || string(b) == "ok\n" {
		kind = "text/plain; charset=utf-8"
	}
	if got := resp.Header.Get("Content-Type"); len(b) > 0 && got != kind {
		c.r.t.Errorf("%s %s answers with %s: %s", req.Method, req.URL, got, b)
	}
	return resp.StatusCode, string(b)
}

// open dials a websocket.
func (c *convox) open(target string, h http.Header) (*websocket.Conn, *http.Response, error) {
	h = h.Clone()
	h.Set("Origin", "https://"+httpAddr)
	conn, resp, err := websocket.Dial(c.r.ctx, target, &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: h})
	if err == nil {
		conn.SetReadLimit(1 << 20)
	}
	return conn, resp, err
}

// socket sends input and its end, and returns the output up to its end.
func (c *convox) socket(target string, h http.Header, input string) (int, string) {
	c.r.t.Helper()
	conn, resp, err := c.open(target, h)
	if err != nil && resp != nil {
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if err != nil {
		c.r.t.Fatalf("%s: %v", target, err)
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	defer conn.CloseNow()
	writing.Go(func() {
		// A server that needs no input may have gone before it is there.
		if input != "" {
			_ = conn.Write(c.r.ctx, websocket.MessageText, []byte(input))
		}
		_ = conn.Write(c.r.ctx, websocket.MessageBinary, nil)
	})
	text, whole := readAll(c.r.ctx, conn)
	if !whole {
		c.r.t.Errorf("%s broke after %q", target, text)
	}
	return http.StatusSwitchingProtocols, text
}

// readAll reads as clients do: up to a binary message, which is the end.
func readAll(ctx context.Context, conn *websocket.Conn) (text string, whole bool) {
	for {
		kind, b, err := conn.Read(ctx)
		if err != nil {
			return text, false
		}
		if kind == websocket.MessageBinary {
			return text, true
		}
		text += string(b)
	}
}

const shop = "environment:\n  - VERSION=one\n  - MODE=\n  - BOOT=\nservices:\n  web:\n    image: shop\n    port: 3000\n    health: /check\n    command: serve --port 3000\n"

// exitMark is what a client looks for in the output of a command.
const exitMark = "F1E49A85-0AD7-4AEF-A618-C249C6E6568D:"

// unknown comes before the output: a client takes the last status that it read.
const unknown = exitMark + "125\n"

// TestConvoxAPI sends what the CLI of Convox sends for its verbs, in the order of a user's day, to
// every route of the table: as who may, and before that as everybody who may not.
func TestConvoxAPI(t *testing.T) {
	inBubble(t, []string{"n1", "n2"}, func(r *rack) {
		c := newConvox(r)
		defer c.http.CloseIdleConnections()
		succeeded(r, r.deploy("other", strings.Replace(shop, "  web:", "  api:", 1)))
		_, secret, err := r.CreateToken(r.ctx, client.NewToken{Name: "other", Role: api.RoleDeployer, Apps: []api.AppName{"other"}})
		r.must(secret, err)
		c.tokens["other"] = secret
		for _, a := range convoxDay() {
			c.do(a)
			switch {
			case strings.HasSuffix(a.row, "/promote"), strings.HasSuffix(a.row, "services/{service}"):
				r.await("end of the update", time.Minute, func() bool {
					app, err := r.App(r.ctx, "shop")
					return err == nil && app.Status == "running" && len(r.processes("shop")) > 0
				})
			case a.learn == "pid":
				r.await("one-off", time.Minute, func() bool {
					p, err := r.Process(r.ctx, "shop", api.ProcessID(c.known["pid"]))
					return err == nil && p.Status == "running"
				})
			}
		}
		for name, row := range c.rows {
			if row.Missing == "" && !c.asked[name] {
				t.Errorf("nobody asks for %s", name)
			}
			if row.Missing != "" && row.Method != "HEAD" {
				c.lacks(name, row)
			}
		}
	})
}

// lacks asks for what the rack does not have.
func (c *convox) lacks(name string, row rest.Row) {
	a := ask{row: name, path: strings.NewReplacer("{", "", "}", "", "...", "").Replace(row.Path), status: http.StatusNotImplemented, want: "^" + regexp.QuoteMeta(row.Missing) + "\n$"}
	if row.Method == "SOCKET" {
		a.want = "^ERROR: " + a.want[1:]
	}
	c.do(a)
}

func convoxDay() []ask {
	source := tgz(map[string]string{"./app.js": "x", "./convox.yml": shop})
	return []ask{
		{row: "GET /auth", want: "^ok\n$"},
		{row: "GET /racks", want: `^\[{"name":"test","status":"running"}\]\n$`},
		{row: "GET /system", want: `"count":2,"domain":"rack.test","name":"test",.*"parameters":{},"provider":"slipway","rack-domain":"server.test:2","region":"","status":"running","type":"","version":"20260101000000"}`},
		{row: "GET /system/capacity", want: `^{"cluster-cpu":8000,"cluster-memory":16384,"process-count":1,"process-cpu":250,"process-memory":512}\n$`},
		{row: "GET /apps", want: `^\[{"generation":"3","locked":false,"name":"other","release":"R[A-Z]{10}","router":"","status":"running","parameters":{}}\]\n$`},
		{row: "POST /apps", form: url.Values{"name": {"shop"}, "generation": {"2"}}, want: `^{"generation":"3","locked":false,"name":"shop","release":"","router":"","status":"running","parameters":{}}\n$`},
		{row: "POST /apps", form: url.Values{"name": {"shop"}}, status: 409, want: `app "shop" exists`},
		{row: "POST /apps", form: url.Values{"name": {"Shop"}}, status: 400, want: `app name "Shop" invalid`},
		{row: "GET /apps/{app}", path: "/apps/shop", want: `"name":"shop"`},
		{row: "GET /apps/{app}/resources", path: "/apps/shop/resources", want: `^\[\]\n$`},
		{row: "GET /apps/{app}/resources", path: "/apps/shopp/resources", status: 404, want: `^no such app: "shopp"`},
		{row: "GET /apps/{app}", path: "/apps/shopp", status: 404, want: `^no such app: "shopp"; did you mean "shop"\?`},
		{row: "GET /apps/{app}/releases", path: "/apps/shop/releases", query: "limit=1", want: `^\[\]\n$`},
		{row: "POST /apps/{app}/releases", path: "/apps/shop/releases", form: url.Values{"env": {"VERSION=two\nLIST=a,b=c"}}, want: `"env":"LIST=a,b=c\\nVERSION=two".*"description":"env add:LIST add:VERSION"`},
		{row: "POST /apps/{app}/releases", path: "/apps/shop/releases", form: url.Values{"env": {"VERSION"}}, status: 400, want: "line 1 of the environment"},

		{row: "POST /apps/{app}/objects/{key...}", path: "/apps/shop/objects/tmp/abc.tgz", body: source, want: `^{"url":"(object://shop/sha256:[0-9a-f]{64})"}\n$`, learn: "url"},
		{row: "POST /apps/{app}/objects/{key...}", path: "/apps/shop/objects/data/x", body: source, status: 501, want: "keeps no objects"},
		{row: "POST /apps/{app}/objects/{key...}", path: "/apps/nope/objects/tmp/abc.tgz", body: source, status: 404, want: "no such app"},
		{row: "POST /apps/{app}/builds", path: "/apps/shop/builds", form: url.Values{"url": {"{url}"}, "manifest": {"other.yml"}}, status: 400, want: "the source has no other.yml"},
		{row: "POST /apps/{app}/builds", path: "/apps/shop/builds", form: url.Values{"url": {"object://other/sha256:" + strings.Repeat("0", 64)}}, status: 400, want: `uploaded to app "other"`},
		{row: "POST /apps/{app}/builds", path: "/apps/shop/builds", form: url.Values{"url": {"object://shop/sha256:" + strings.Repeat("0", 64)}}, status: 404, want: `upload it again`},
		{
			row: "POST /apps/{app}/builds", path: "/apps/shop/builds", form: url.Values{
				"url": {"{url}"}, "description": {"build 0123456789 first"}, "git-sha": {"0123456789"}, "build-args": {"A=1,B=2,3"}, "no-cache": {"true"}, "wildcard-domain": {"false"},
			}, want: `^{"id":"(B[A-Z]{10})","app":"shop","description":"build 0123456789 first","entrypoint":"","git-sha":"0123456789",.*"status":"running"`, learn: "build",
		},
		{row: "SOCKET /apps/{app}/builds/{id}/logs", path: "/apps/shop/builds/{build}/logs", want: `(?m)^mirrored$`},
		{row: "SOCKET /apps/{app}/builds/{id}/logs", path: "/apps/shop/builds/BNOPE/logs", want: `^ERROR: build "BNOPE" not found`},
		{row: "GET /apps/{app}/builds/{id}", path: "/apps/shop/builds/{build}", want: `"release":"(R[A-Z]{10})".*"status":"complete"`, learn: "release"},
		{row: "GET /apps/{app}/builds", path: "/apps/shop/builds", query: "limit=1", want: `^\[{"id":"{?B`},
		{row: "GET /apps/{app}/releases/{id}", path: "/apps/shop/releases/{release}", as: "deploy", want: `"env":"LIST=a,b=c\\nVERSION=two","manifest":"environment:`},
		{row: "GET /apps/{app}/releases/{id}", path: "/apps/shop/releases/{release}", want: `"env":"","manifest":"environment:`},
		{row: "POST /apps/{app}/releases/{id}/promote", path: "/apps/shop/releases/{release}/promote", form: url.Values{"force": {"true"}}, want: "^ok\n$"},
		{row: "GET /apps/{app}", path: "/apps/shop", want: `"release":"R[A-Z]{10}","router":"","status":"running"`},

		{row: "GET /apps/{app}/processes", path: "/apps/shop/processes", want: `^\[{"id":"(p[a-z]{10})","app":"shop","command":"serve --port 3000",.*"instance":"n[12]",.*"name":"web","ports":\[\],.*"service":"web",.*"status":"running"}\]\n$`, learn: "web"},
		{row: "GET /apps/{app}/processes", path: "/apps/shop/processes", query: "service=nope", status: 404, want: `service "nope" not found`},
		{row: "GET /apps/{app}/processes/{pid}", path: "/apps/shop/processes/{web}", want: `"status":"running"`},
		{row: "GET /system/processes", query: "all=true", want: `"app":"shop"`},
		{row: "GET /apps/{app}/services", path: "/apps/shop/services", want: `^\[{"count":1,"cpu":250,"domain":"web.shop.rack.test","memory":512,"name":"web","nlb":\[\],"ports":\[{"balancer":80,"certificate":"","container":3000},{"balancer":443,"certificate":"","container":3000}\]}\]\n$`},
		{row: "SOCKET /apps/{app}/processes/{pid}/exec", path: "/apps/shop/processes/{web}/exec", headers: map[string]string{"command": "app exit 3", "Tty": "false", "Height": "24", "Width": "80", "Entrypoint": "true"}, want: "^" + unknown + "/app app leaves with 3\n" + exitMark + "3\n$"},
		{row: "SOCKET /apps/{app}/processes/{pid}/exec", path: "/apps/shop/processes/web/exec", headers: map[string]string{"command": "app exit 0"}, body: "input", want: "^" + unknown + "app leaves with 0\r?\n" + exitMark + "0\n$"},
		{row: "SOCKET /apps/{app}/processes/{pid}/exec", path: "/apps/shop/processes/pnope/exec", headers: map[string]string{"command": "app exit 0"}, want: "^" + unknown + `ERROR: .*not found.*\n` + unknown + "$"},
		{row: "SOCKET /apps/{app}/processes/{pid}/exec", path: "/apps/shop/processes/web/exec", want: "^" + unknown + `ERROR: parameter required: Command .*\n` + unknown + "$"},
		{row: "SOCKET /apps/{app}/processes/{pid}/exec", path: "/apps/shop/processes/web/exec", headers: map[string]string{"Command": "a 'b"}, want: "^" + unknown + `ERROR: .*a quote .*\n` + unknown + "$"},
		{row: "POST /apps/{app}/services/{service}/processes", path: "/apps/shop/services/web/processes", headers: map[string]string{"Command": "app run for long", "Height": "24", "Width": "80"}, want: `^{"id":"(p[a-z]{10})",.*"command":"app run for long"`, learn: "pid"},
		{row: "POST /apps/{app}/services/{service}/processes", path: "/apps/shop/services/web/processes", headers: map[string]string{"Command": "ls", "Environment": "A=1"}, status: 501, want: "parameter Environment is not supported"},
		{row: "DELETE /apps/{app}/processes/{pid}", path: "/apps/shop/processes/{pid}", want: "^ok\n$"},
		{row: "SOCKET /apps/{app}/logs", path: "/apps/shop/logs", headers: map[string]string{"Follow": "false", "Prefix": "true", "Since": "20m0s"}, want: `(?s)T..:..:..Z system/slipway/D[A-Z]{10} deployment.started shop .* service/web/p[a-z]{10} version two\n`},
		{row: "SOCKET /apps/{app}/logs", path: "/apps/shop/logs", headers: map[string]string{"Follow": "false", "Filter": "version", "Since": "20m0s"}, want: `^(version two\n)+$`},
		// What runs in a bubble has no network to connect to.
		{row: "SOCKET /proxy/{host}/{port}", path: "/proxy/web.shop.test.local/3000", want: `^ERROR: process p[a-z]+ does not accept connections to port 3000: `},
		{row: "SOCKET /proxy/{host}/{port}", path: "/proxy/web.other/3000", want: `^ERROR: service "web" not found`},
		{row: "SOCKET /proxy/{host}/{port}", path: "/proxy/web.nope/3000", want: `^ERROR: no such app: "nope"`},
		{row: "SOCKET /proxy/{host}/{port}", path: "/proxy/database/5432", want: `^ERROR: host "database": .* name one as SERVICE.APP`},
		{row: "SOCKET /proxy/{host}/{port}", path: "/proxy/web.shop/0", want: `^ERROR: parameter port: .*1`},
		{row: "SOCKET /proxy/{host}/{port}", path: "/proxy/web.shop/http", want: `^ERROR: parameter port: "http" is no whole number`},
		{row: "SOCKET /apps/{app}/logs", path: "/apps/nope/logs", want: `^ERROR: no such app: "nope"`},
		{row: "SOCKET /apps/{app}/processes/{pid}/logs", path: "/apps/shop/processes/{web}/logs", headers: map[string]string{"Follow": "false"}, want: "^(version two\n)?"},
		{row: "SOCKET /apps/{app}/services/{service}/logs", path: "/apps/shop/services/web/logs", headers: map[string]string{"Follow": "false", "Since": "20m0s"}, want: "version two\n"},
		{row: "SOCKET /system/logs", headers: map[string]string{"Follow": "false", "Since": "30m0s", "Prefix": "true"}, want: `(?m)^2000-01-01T..:..:..Z service/rack/shop app.created shop by jwt-rw-[0-9a-f]+$`},
		{row: "PUT /apps/{app}/services/{service}", path: "/apps/shop/services/web", form: url.Values{"count": {"3"}, "cpu": {"500"}, "memory": {"256"}}, want: "^ok\n$"},
		{row: "PUT /apps/{app}/services/{service}", path: "/apps/shop/services/web", form: url.Values{}, status: 400, want: "neither count, cpu nor memory"},
		{row: "GET /apps/{app}/services", path: "/apps/shop/services", want: `"count":3,"cpu":500,.*"memory":256`},
		{row: "POST /apps/{app}/services/{service}/restart", path: "/apps/shop/services/web/restart", want: "^ok\n$"},
		{row: "GET /instances", want: `^\[{"agent":true,"cpu":.*"cpu-capacity":4000,.*"id":"n1",.*"private-ip":"10.0.0.1",.*"status":"active"`},
		{row: "DELETE /instances/{id}", path: "/instances/n2", want: "^ok\n$"},
		{row: "GET /instances", want: `"id":"n2",.*"status":"draining"`},
		{row: "GET /apps/{app}/processes/{pid}/files", path: "/apps/shop/processes/{web}/files", query: "file=", status: 400, want: "parameter required: file"},
		{row: "POST /apps/{app}/processes/{pid}/files", path: "/apps/shop/processes/pnope/files", body: "tar", status: 404, want: `process "pnope" not found`},

		{row: "POST /apps/{app}/builds", path: "/apps/shop/builds", form: url.Values{"url": {"{url}"}}, want: `"id":"(B[A-Z]{10})"`, learn: "second"},
		{row: "SOCKET /apps/{app}/builds/{id}/logs", path: "/apps/shop/builds/{second}/logs", want: `(?m)^mirrored$`},
		{row: "GET /apps/{app}/releases", path: "/apps/shop/releases", query: "limit=1", want: `^\[{"id":"R[A-Z]{10}","app":"shop","build":"{second}"`},
		{row: "POST /apps/{app}/releases", path: "/apps/shop/releases", form: url.Values{"build": {"{build}"}, "env": {"VERSION=one"}}, want: `^{"id":"(R[A-Z]{10})","app":"shop","build":"{build}","env":"VERSION=one".*"description":"build:{build} change:VERSION remove:LIST"`, learn: "back"},
		{row: "POST /apps/{app}/releases/{id}/promote", path: "/apps/shop/releases/{back}/promote", form: url.Values{}, want: "^ok\n$"},
		{row: "POST /apps/{app}/releases", path: "/apps/shop/releases", form: url.Values{"build": {"BNOPE"}}, status: 404, want: `^build "BNOPE" not found`},
		{row: "POST /apps/{app}/releases", path: "/apps/other/releases", form: url.Values{"build": {"{build}"}}, status: 404, want: `^build "{build}" not found`},
		{row: "GET /apps/{app}/builds/{id}", path: "/apps/other/builds/{build}", status: 404, want: `^build "B[A-Z]+" not found`},
		{row: "SOCKET /apps/{app}/builds/{id}/logs", path: "/apps/other/builds/{build}/logs", want: `^ERROR: build "B[A-Z]+" not found`},
		{row: "POST /apps/{app}/builds", path: "/apps/other/builds", form: url.Values{"url": {"{url}"}}, status: 400, want: `uploaded to app "shop", not to "other"`},
		{row: "GET /apps/{app}/releases/{id}", path: "/apps/other/releases/{release}", status: 404, want: `^release "R[A-Z]+" not found`},
		{row: "POST /apps/{app}/releases/{id}/promote", path: "/apps/other/releases/{release}/promote", status: 404, want: `^release "R[A-Z]+" not found`},
		{row: "GET /apps/{app}/processes/{pid}", path: "/apps/other/processes/{web}", status: 404, want: `^process "p[a-z]+" not found`},
		{row: "DELETE /apps/{app}/processes/{pid}", path: "/apps/other/processes/{web}", status: 404, want: `^process "p[a-z]+" not found`},
		{row: "GET /apps/{app}/processes/{pid}/files", path: "/apps/other/processes/{web}/files", query: "file=%2F", status: 404, want: `^process "p[a-z]+" not found`},
		{row: "POST /apps/{app}/processes/{pid}/files", path: "/apps/other/processes/{web}/files", body: "tar", status: 404, want: `^process "p[a-z]+" not found`},
		{row: "SOCKET /apps/{app}/processes/{pid}/exec", path: "/apps/other/processes/{web}/exec", headers: map[string]string{"Command": "app exit 0"}, want: "^" + unknown + `ERROR: .*not found.*\n` + unknown + "$"},
		{row: "SOCKET /apps/{app}/processes/{pid}/logs", path: "/apps/other/processes/{web}/logs", headers: map[string]string{"Follow": "false"}, want: `^ERROR: process "p[a-z]+" not found`},
		{row: "SOCKET /apps/{app}/services/{service}/logs", path: "/apps/other/services/web/logs", headers: map[string]string{"Follow": "false"}, want: `^ERROR: service "web" not found`},
		{row: "POST /apps/{app}/services/{service}/processes", path: "/apps/other/services/web/processes", headers: map[string]string{"Command": "ls"}, status: 404, want: `^service "web" not found`},
		{row: "POST /apps/{app}/services/{service}/restart", path: "/apps/other/services/web/restart", status: 404, want: `^service "web" not found`},
		{row: "PUT /apps/{app}/services/{service}", path: "/apps/other/services/web", form: url.Values{"count": {"2"}}, status: 404, want: `^service "web" not found`},

		{row: "POST /apps/{app}/builds/import", path: "/apps/shop/builds/import", body: exportOf(shop, "web"), want: `^{"id":"(B[A-Z]{10})","app":"shop","description":"from elsewhere",.*"git-sha":"abc",.*"release":"R[A-Z]{10}",.*"status":"complete"`, learn: "imported"},
		{row: "GET /apps/{app}/releases", path: "/apps/shop/releases", query: "limit=1", want: `^\[{"id":"R[A-Z]{10}","app":"shop","build":"{imported}"`},
		{row: "GET /apps/{app}/builds/{id}.tgz", path: "/apps/shop/builds/{imported}.tgz", want: "(?s)^\x1f"},
		{row: "GET /apps/{app}/builds/{id}.tgz", path: "/apps/shop/builds/{build}.tgz", status: 404, want: `image shop:web`},
		{row: "GET /apps/{app}/builds/{id}.tgz", path: "/apps/shop/builds/BNOPE.tgz", status: 404, want: `^build "BNOPE" not found`},
		{row: "GET /apps/{app}/builds/{id}.tgz", path: "/apps/other/builds/{imported}.tgz", status: 404, want: `^build "{imported}" not found`},
		{row: "POST /apps/{app}/builds/import", path: "/apps/shop/builds/import", body: exportOf(strings.Replace(shop, "  - BOOT=", "  - NEEDED", 1), "web"), want: `"release":"(R[A-Z]{10})".*"status":"complete"`, learn: "needy"},
		{row: "POST /apps/{app}/releases/{id}/promote", path: "/apps/shop/releases/{needy}/promote", status: 400, want: "required env: NEEDED"},
		{row: "POST /apps/{app}/releases", path: "/apps/shop/releases", form: url.Values{"env": {"VERSION=one\nNEEDED=x"}}, want: `"id":"(R[A-Z]{10})"`, learn: "needy"},
		{row: "POST /apps/{app}/releases/{id}/promote", path: "/apps/shop/releases/{needy}/promote", form: url.Values{}, want: "^ok\n$"},
		{row: "POST /apps/{app}/builds/import", path: "/apps/nope/builds/import", body: exportOf(shop, "web"), status: 404, want: "no such app"},
		{row: "POST /apps/{app}/builds/import", path: "/apps/shop/builds/import", body: exportOf(shop, "api"), status: 400, want: `no image for service "web"; it has some for: api`},
		{row: "POST /apps/{app}/builds/import", path: "/apps/shop/builds/import", body: exportOf("services: 1", "web"), status: 400, want: "services"},
		{row: "POST /apps/{app}/builds/import", path: "/apps/shop/builds/import", body: "no archive", status: 400, want: "the archive cannot be unpacked"},
		{row: "POST /apps/{app}/builds/import", path: "/apps/shop/builds/import", body: exportOf(shop, "web")[:200], status: 400, want: "cannot be unpacked"},
		{row: "POST /apps/{app}/builds/import", path: "/apps/shop/builds/import", body: tgz(map[string]string{"a": "b"}), status: 400, want: "the archive has no build.json"},
		{row: "POST /apps/{app}/builds/import", path: "/apps/shop/builds/import", body: tgz(map[string]string{"web.B1.tar": "b"}), status: 400, want: `"web.B1.tar": .*cannot be unpacked`},

		{row: "POST /registries", form: url.Values{"server": {"https://Registry.Example.com:5000/"}, "username": {"ann"}, "password": {"pass word"}}, want: `^{"server":"registry.example.com:5000","username":"ann","password":""}\n$`},
		{row: "POST /registries", form: url.Values{"server": {"index.docker.io"}, "username": {"bob"}, "password": {"x"}}, want: `^{"server":"docker.io","username":"bob","password":""}\n$`},
		{row: "POST /registries", form: url.Values{"server": {"registry"}, "username": {"ann"}, "password": {"x"}}, status: 400, want: `registry "registry" is not a host`},
		{row: "POST /registries", form: url.Values{"server": {"r.example.com"}, "username": {"ann"}}, status: 400, want: "parameter required: password"},
		{row: "POST /registries", form: url.Values{"server": {"r.example.com"}, "username": {"ann"}, "password": {strings.Repeat("x", 20_000)}}, status: 413, want: "parameter password is 20000 bytes long"},
		{row: "GET /registries", want: `^\[{"server":"docker.io","username":"bob","password":""},{"server":"registry.example.com:5000","username":"ann","password":""}\]\n$`},
		{row: "DELETE /registries/{server...}", path: "/registries/registry.example.com", status: 404, want: `^registry "registry.example.com" not found; did you mean "registry.example.com:5000"`},
		{row: "DELETE /registries/{server...}", path: "/registries/https:%2F%2Findex.docker.io%2Fv1%2F", want: "^ok\n$"},
		{row: "DELETE /registries/{server...}", path: "/registries/registry.example.com:5000", want: "^ok\n$"},
		{row: "GET /registries", want: `^\[\]\n$`},
		{row: "POST /apps/{app}/cancel", path: "/apps/shop/cancel", status: 409, want: "no deployment in progress"},
		{row: "POST /system/jwt/token", form: url.Values{"role": {"read"}, "durationInHour": {"1"}}, want: `^{"token":"(slip_[a-z0-9]+)"}\n$`, learn: "token"},
		{row: "PUT /apps/{app}", path: "/apps/shop", form: url.Values{"lock": {"true"}}, want: "^ok\n$"},
		{row: "DELETE /apps/{app}", path: "/apps/shop", status: 409, want: "locked"},
		{row: "PUT /apps/{app}", path: "/apps/shop", form: url.Values{"lock": {"false"}}, want: "^ok\n$"},
		{row: "DELETE /apps/{app}", path: "/apps/shop", want: "^ok\n$"},
	}
}
