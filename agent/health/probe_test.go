package health

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"slipway/api"
)

// port returns the port of an address.
func port(t *testing.T, addr net.Addr) int {
	t.Helper()
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return int(ap.Port())
}

// probe makes the health check of a service once.
func probe(t *testing.T, spec *api.ServiceSpec) api.ProbeResult {
	t.Helper()
	list := checks(spec, "127.0.0.1")
	if len(list) != 1 || list[0].kind != KindHealth {
		t.Fatalf("%d checks of %+v", len(list), spec)
	}
	return list[0].run(t.Context(), time.Now)
}

// serve answers on a free port.
func serve(t *testing.T, h http.HandlerFunc) *api.ServiceSpec {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	spec := web(port(t, s.Listener.Addr()))
	spec.Health.Timeout = time.Second
	return spec
}

func TestStatuses(t *testing.T) {
	for status, healthy := range map[int]bool{200: true, 204: true, 301: true, 399: true, 400: false, 401: false, 500: false, 503: false} {
		r := probe(t, serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }))
		if (r.Error == "") != healthy || r.Status != status {
			t.Errorf("status %d: %+v", status, r)
		}
	}
}

// TestProbeGoesNowhereElse: neither an answer nor a path moves a probe to another address.
func TestProbeGoesNowhereElse(t *testing.T) {
	var lured atomic.Int64
	lure := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { lured.Add(1) }))
	defer lure.Close()
	for _, location := range []string{lure.URL, "//" + lure.Listener.Addr().String() + "/", "file:///etc/passwd", "http://169.254.169.254/latest/"} {
		r := probe(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusFound)
		}))
		if r.Error != "" || r.Status != http.StatusFound {
			t.Errorf("redirect to %s: %+v", location, r)
		}
	}
	t.Setenv("HTTP_PROXY", lure.URL)
	spec := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	for path, ok := range map[string]bool{
		"@" + lure.Listener.Addr().String() + "/": false, lure.URL: false, "/a\r\nHost: evil": false, "health": false,
		"//" + lure.Listener.Addr().String() + "/": true, "/a b": true, "/x?y=1": true, "": true,
	} {
		spec.Health.Path = path
		if r := probe(t, spec); (r.Error == "") != ok {
			t.Errorf("path %q: %+v", path, r)
		}
	}
	if lured.Load() > 0 {
		t.Errorf("%d requests went to another address", lured.Load())
	}
}

// TestEndlessAnswers: what a process sends is read up to a bound, and waited for up to the
// timeout.
func TestEndlessAnswers(t *testing.T) {
	var wrote atomic.Int64
	begin := time.Now()
	r := probe(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			n, err := w.Write(make([]byte, 64<<10))
			if wrote.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	if r.Error != "" || wrote.Load() > 16<<20 {
		t.Errorf("endless body: %+v after %d bytes", r, wrote.Load())
	}
	r = probe(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	if r.Error != "" || r.Status != 200 {
		t.Errorf("a body that never comes: %+v", r)
	}
	for name, more := range map[string]string{
		"head": "X-A: 1\r\n", "silence": "", "nonsense": "\x00\x01",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			io.WriteString(c, strings.Repeat("HTTP/1.1 200 OK\r\n", len(more)/4))
			for err == nil && more != "" {
				_, err = io.WriteString(c, strings.Repeat(more, 100))
			}
			io.Copy(io.Discard, c)
		}()
		spec := web(port(t, l.Addr()))
		spec.Health.Timeout = time.Second
		if r := probe(t, spec); r.Error == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("five probes of at most a second took %s", took)
	}
}

// serveGRPC serves with what register adds, on a free port.
func serveGRPC(t *testing.T, register func(*grpc.Server)) *api.ServiceSpec {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	spec := web(port(t, l.Addr()))
	spec.Port.Scheme, spec.Health.Timeout = api.SchemeGRPC, time.Second
	return spec
}

// TestGRPC: a server of gRPC says by its health protocol whether it serves; one without the
// protocol does by answering at all.
func TestGRPC(t *testing.T) {
	server := health.NewServer()
	spec := serveGRPC(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, server) })
	for status, says := range map[grpc_health_v1.HealthCheckResponse_ServingStatus]string{
		grpc_health_v1.HealthCheckResponse_SERVING: "", grpc_health_v1.HealthCheckResponse_NOT_SERVING: "answered NOT_SERVING",
		grpc_health_v1.HealthCheckResponse_UNKNOWN: "answered UNKNOWN",
	} {
		server.SetServingStatus("", status)
		if r := probe(t, spec); r.Error != says || !strings.HasPrefix(r.Target, "grpc.health.v1.Health/Check at 127.0.0.1:") {
			t.Errorf("%s: %+v", status, r)
		}
	}
	if r := probe(t, serveGRPC(t, func(*grpc.Server) {})); r.Error != "" {
		t.Errorf("without the protocol: %+v", r)
	}
	nameless := serveGRPC(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, nothing{}) })
	if r := probe(t, nameless); r.Error != "" {
		t.Errorf("one that knows its services by name only: %+v", r)
	}
	mute := serveGRPC(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, silence{}) })
	if r := probe(t, mute); r.Error != "no answer within 1s" {
		t.Errorf("one that does not answer: %+v", r)
	}
	odd := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	odd.Port.Scheme = api.SchemeGRPC
	if r := probe(t, odd); !strings.HasPrefix(r.Error, "no answer in gRPC: ") {
		t.Errorf("HTTP/1.1: %+v", r)
	}
	odd.Port.Number = 1
	if r := probe(t, odd); r.Error != "connection refused: nothing listens there" {
		t.Errorf("closed: %+v", r)
	}
}

// nothing knows no service, silence never answers.
type (
	nothing struct {
		grpc_health_v1.UnimplementedHealthServer
	}
	silence struct {
		grpc_health_v1.UnimplementedHealthServer
	}
)

func (nothing) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return nil, status.Error(codes.NotFound, "unknown service")
}

func (silence) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestConnect: health.tcp and a port of TCP ask for a connection only.
func TestConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := port(t, l.Addr())
	specs := map[string]*api.ServiceSpec{"health.tcp": web(open), "scheme tcp": web(open), "grpc with health.tcp": web(open), "udp with health.tcp": web(open)}
	specs["health.tcp"].Health.TCP = true
	specs["scheme tcp"].Port.Scheme = api.SchemeTCP
	specs["grpc with health.tcp"].Port.Scheme = api.SchemeGRPC
	specs["grpc with health.tcp"].Health.TCP = true
	specs["udp with health.tcp"].Port.Scheme = api.SchemeUDP
	specs["udp with health.tcp"].Health.TCP = true
	for name, spec := range specs {
		if r := probe(t, spec); r.Error != "" || !strings.HasPrefix(r.Target, "connect to ") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	l.Close()
	for name, spec := range specs {
		if r := probe(t, spec); r.Error != "connection refused: nothing listens there" {
			t.Errorf("%s, closed: %+v", name, r)
		}
	}
}

func TestChecked(t *testing.T) {
	for name, c := range map[string]struct {
		edit    func(*api.ServiceSpec)
		checked bool
		target  string
	}{
		"a port":                     {func(*api.ServiceSpec) {}, true, "GET http://[fd00::1]:80/check"},
		"no port":                    {func(s *api.ServiceSpec) { s.Port.Number = 0 }, false, ""},
		"disabled":                   {func(s *api.ServiceSpec) { s.Health.Disabled = true }, false, ""},
		"https":                      {func(s *api.ServiceSpec) { s.Port.Scheme = api.SchemeHTTPS }, true, "GET https://[fd00::1]:80/check"},
		"udp":                        {func(s *api.ServiceSpec) { s.Port.Scheme = api.SchemeUDP }, false, ""},
		"udp with a port of its own": {func(s *api.ServiceSpec) { s.Port.Scheme, s.Health.Port = api.SchemeUDP, 9 }, true, "GET http://[fd00::1]:9/check"},
		"tcp with a port of its own": {func(s *api.ServiceSpec) { s.Port.Scheme, s.Health.Port = api.SchemeTCP, 9 }, true, "GET http://[fd00::1]:9/check"},
		"no port but a check's":      {func(s *api.ServiceSpec) { s.Port.Number, s.Health.Port = 0, 9 }, true, "GET http://[fd00::1]:9/check"},
	} {
		spec := web(80)
		c.edit(spec)
		if Checked(spec) != c.checked {
			t.Errorf("%s: checked is %v", name, !c.checked)
		}
		if list := checks(spec, "fd00::1"); c.checked && (len(list) != 1 || list[0].target != c.target) {
			t.Errorf("%s: %+v, want %s", name, list, c.target)
		}
	}
}

// TestUncheckedIsHealthy: a process without a check is healthy at once, and is not probed.
func TestUncheckedIsHealthy(t *testing.T) {
	spec := web(0)
	ctx, cancel := context.WithCancel(t.Context())
	Watch(ctx, spec, "127.0.0.1", time.Now(), func(r api.ProbeResult) { t.Errorf("probed: %+v", r) }, func(v Verdict) {
		if v.Health != api.HealthHealthy {
			t.Errorf("%+v", v)
		}
		cancel()
	})
	if ctx.Err() == nil {
		t.Error("nothing was reported")
	}
	cancel()
}
