package router

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"slipway/api"
)

// BenchmarkProxy measures a request through the router against httputil.ReverseProxy doing the
// same. The client and the process are the same lean code for both and run in this process, so
// "direct", the same without a proxy, is what to subtract: cpu-ns/op is the processor time of
// the whole process per request.
func BenchmarkProxy(b *testing.B) {
	for _, size := range []int{990, 64 << 10} {
		target := benchTarget(b, size)
		r := benchRouter(b)
		r.install(api.RouteTable{Version: 1, Routes: []api.Route{lead(target)}})
		u := &url.URL{Scheme: "http", Host: target}
		reverse := &httputil.ReverseProxy{
			Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(u); p.Out.Host = p.In.Host; p.SetXForwarded() },
			Transport: &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, DisableCompression: true},
		}
		b.Run(fmt.Sprintf("direct/%d", size), func(b *testing.B) { benchGet(b, target, size) })
		b.Run(fmt.Sprintf("router/%d", size), func(b *testing.B) { benchGet(b, benchFront(b, r), size) })
		b.Run(fmt.Sprintf("reverseproxy/%d", size), func(b *testing.B) { benchGet(b, benchFront(b, reverse), size) })
	}
}

// benchRouter is a router without sockets.
func benchRouter(b *testing.B) *Router {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	settled := make(chan struct{}, 1)
	return &Router{
		logger:   slog.New(slog.DiscardHandler),
		compiler: compiler{settled: settled, metrics: m},
		settled:  settled,
		known:    make(map[targetID]*target),
		drains:   make(map[*target]time.Time),
	}
}

// benchTarget answers every request on a connection with the same bytes.
func benchTarget(b *testing.B, size int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	reply := append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size), make([]byte, size)...)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for br := bufio.NewReader(c); ; {
					for {
						line, err := br.ReadSlice('\n')
						if err != nil {
							return
						}
						if len(line) <= 2 {
							break
						}
					}
					if _, err := c.Write(reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func benchFront(b *testing.B, h http.Handler) string {
	s := httptest.NewServer(h)
	b.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func benchGet(b *testing.B, addr string, size int) {
	request := []byte("GET /path HTTP/1.1\r\nHost: app.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	b.ReportAllocs()
	b.SetParallelism(16)
	before := cpuTime()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		br := bufio.NewReaderSize(c, 16<<10)
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			for first := true; ; first = false {
				line, err := br.ReadSlice('\n')
				if err != nil || (first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200"))) {
					b.Errorf("%q %v", line, err)
					return
				}
				if len(line) <= 2 {
					break
				}
			}
			if _, err := io.CopyN(io.Discard, br, int64(size)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPick chooses among targets.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 8, 1000} {
		rt := &route{}
		for i := range n {
			rt.targets = append(rt.targets, newTarget(targetID{addr: fmt.Sprint(i)}, nil))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				rt.pick(nil)
			}
		})
	}
}
