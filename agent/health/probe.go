package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"slipway/api"
)

// How much of an answer is read before the connection is dropped.
const (
	bodyMax = 64 << 10
	headMax = 64 << 10
)

// check is one probe to be made again and again.
type check struct {
	kind    string
	target  string // what a user reads
	timeout time.Duration
	do      func(context.Context) (status int, err error)
}

// run makes the probe once.
func (c *check) run(ctx context.Context, now func() time.Time) api.ProbeResult {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	began := now()
	status, err := c.do(ctx)
	r := api.ProbeResult{Kind: c.kind, Target: c.target, Status: status, Took: now().Sub(began), At: began}
	if err != nil {
		r.Error = explain(err, c.timeout)
	}
	return r
}

// explain says in a few words what went wrong.
func explain(err error, timeout time.Duration) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", timeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: nothing listens there"
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return err.Error()
}

// checks are what is to be probed of a process.
func checks(spec *api.ServiceSpec, addr string) []*check {
	var out []*check
	if Checked(spec) {
		h := spec.Health
		out = append(out, newCheck(KindHealth, spec, addr, h.Path, h.TCP || spec.Port.Scheme == api.SchemeTCP && h.Port == 0, h.Port, h.Timeout))
	}
	for kind, p := range map[string]*api.Probe{KindLiveness: spec.Liveness, KindStartup: spec.Startup} {
		if p != nil {
			out = append(out, newCheck(kind, spec, addr, p.Path, p.TCP || p.Path == "", p.Port, p.Timeout))
		}
	}
	return out
}

func newCheck(kind string, spec *api.ServiceSpec, addr, path string, tcp bool, port int, timeout time.Duration) *check {
	if port == 0 {
		port = spec.Port.Number
	}
	hostport := net.JoinHostPort(addr, strconv.Itoa(port))
	c := &check{kind: kind, timeout: max(timeout, time.Second)}
	if !tcp && spec.Port.Scheme == api.SchemeGRPC && port == spec.Port.Number {
		c.target = "grpc.health.v1.Health/Check at " + hostport
		c.do = func(ctx context.Context) (int, error) { return 0, askHealth(ctx, hostport) }
		return c
	}
	if tcp {
		c.target = "connect to " + hostport
		c.do = func(ctx context.Context) (int, error) { return 0, connect(ctx, hostport) }
		return c
	}
	scheme := "http"
	if spec.Port.Scheme == api.SchemeHTTPS {
		scheme = "https"
	}
	if path == "" {
		path = "/"
	}
	// The path is the user's; where the request goes is not.
	u, err := url.ParseRequestURI(path)
	if err != nil || path[0] != '/' {
		c.target = "GET " + path
		c.do = func(context.Context) (int, error) { return 0, fmt.Errorf("%q is not a path such as /health", path) }
		return c
	}
	u.Scheme, u.Host = scheme, hostport
	address := u.String()
	client := newClient()
	c.target = "GET " + address
	c.do = func(ctx context.Context) (int, error) { return get(ctx, client, address) }
	return c
}

func connect(ctx context.Context, hostport string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", hostport)
	if err != nil {
		return err
	}
	return conn.Close()
}

// newClient follows no redirect and keeps no connection: a probe is asked of this process and
// of nobody else, and shall find out whether it accepts connections.
func newClient() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: headMax, Proxy: nil, TLSClientConfig: anyCertificate(),
		},
	}
}

func get(ctx context.Context, client *http.Client, address string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "slipway-health")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	// What is read is thrown away, and a body that breaks off does not change the status.
	_, _ = io.CopyN(io.Discard, resp.Body, bodyMax)
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return resp.StatusCode, fmt.Errorf("answered %s", resp.Status)
	}
	return resp.StatusCode, nil
}
