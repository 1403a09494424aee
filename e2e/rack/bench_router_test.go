package rack

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/e2e/bench"

	"golang.org/x/sys/unix"
)

// proxy is one of those that are compared: a process that listens on a port.
type proxy struct {
	pid  int
	url  string
	cost []float64 // processor time per request, µs
	p99  string
}

// routers compares processor time per request of the rack's router with its peers, on the same
// backend and loader. The proxies have one processor to themselves, loader and backend the other:
// a proxy that shares its processor with its own load is measured by chance.
func routers(t *testing.T, r *rack, rows *bench.Report) {
	r.must("", "apps", "delete", "hello") // of the part before
	r.must("", "scale", "web", "--count", "1", "-a", "shop")
	settled(t, r, 1)
	backend := backendAddr(t, r)
	p := ports(t, 3)
	haproxy := startHAProxy(t, p[0], p[1], backend)
	reverse := exec.Command(os.Args[0], "-test.run", "TestReverseProxy")
	reverse.Env = append(os.Environ(), fmt.Sprintf("REVERSE_PROXY=127.0.0.1:%d http://%s", p[2], backend), "GOMAXPROCS=1")
	if err := reverse.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reverse.Process.Kill(); reverse.Wait() })
	router := routerPid(t, r)
	socket, namespace := engineOf(t, r)
	for _, line := range strings.Split(strings.TrimSpace(ctr(t, socket, "-n", namespace, "tasks", "ls")), "\n")[1:] {
		pin(t, number(t, strings.Fields(line)[1]), 1)
	}
	ours, peer, plain := proxy{pid: router, url: fmt.Sprintf("http://web.shop.localhost:%d/", r.http)}, proxy{pid: haproxy, url: fmt.Sprintf("http://web.shop.localhost:%d/", p[0])},
		proxy{pid: reverse.Process.Pid, url: fmt.Sprintf("http://web.shop.localhost:%d/", p[2])}
	oursTLS, peerTLS := proxy{pid: router, url: fmt.Sprintf("https://web.shop.localhost:%d/", r.https)}, proxy{pid: haproxy, url: fmt.Sprintf("https://web.shop.localhost:%d/", p[1])}
	all := []*proxy{&ours, &peer, &plain, &oursTLS, &peerTLS}
	for _, x := range all {
		r.await("answer of "+x.url, 10*time.Second, func() bool {
			resp, err := r.client().Get(x.url)
			if err == nil {
				resp.Body.Close()
			}
			return err == nil
		})
		pin(t, x.pid, 0)
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 web.shop.localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, x := range all {
			x.measure(t, hosts)
		}
	}
	rows.Add("router_cpu_over_haproxy", bench.Median(ours.cost), "us/req", "haproxy, one thread", bench.Median(peer.cost), "median of 3 x 4 s in turns, wrk -c64, each proxy alone on a processor; p99 "+ours.p99+", haproxy "+peer.p99)
	rows.Add("router_tls_cpu_over_haproxy", bench.Median(oursTLS.cost), "us/req", "haproxy, one thread, TLS 1.3", bench.Median(peerTLS.cost), "same over TLS; p99 "+oursTLS.p99+", haproxy "+peerTLS.p99)
	rows.Add("router_cpu_over_nethttp", bench.Median(ours.cost), "us/req", "httputil.ReverseProxy", bench.Median(plain.cost), "same, plain; p99 "+plain.p99)
}

// startHAProxy starts the peer, for HTTP and HTTPS, and returns its pid.
func startHAProxy(t *testing.T, plain, secure int, backend string) int {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:%d
  bind 127.0.0.1:%d ssl crt %s/cert.pem
  default_backend b
backend b
  server s %s
`, plain, secure, dir, backend)
	for name, text := range map[string][]byte{"haproxy.cfg": []byte(config), "cert.pem": certificate(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("haproxy", "-db", "-f", dir+"/haproxy.cfg")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// certificate is one as the rack's CA signs them: ECDSA on P-256.
func certificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
}

// routerPid is the pid of the rack's router.
func routerPid(t *testing.T, r *rack) int {
	t.Helper()
	socket, _ := engineOf(t, r)
	b, err := os.ReadFile(filepath.Join(filepath.Dir(socket), "router.pid"))
	if err != nil {
		t.Fatal(err)
	}
	return number(t, strings.Fields(string(b))[0])
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// pin gives a process, its threads and its descendants one processor.
func pin(t *testing.T, pid, cpu int) {
	t.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	for _, task := range globs(fmt.Sprintf("/proc/%d/task/*", pid)) {
		if err := unix.SchedSetaffinity(number(t, filepath.Base(task)), &set); err != nil && err != unix.ESRCH {
			t.Fatalf("pin %s: %v", task, err)
		}
		children, err := os.ReadFile(task + "/children")
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range bytes.Fields(children) {
			pin(t, number(t, string(child)), cpu)
		}
	}
}

// backendAddr is the address of the one copy of the app.
func backendAddr(t *testing.T, r *rack) string {
	t.Helper()
	var list []struct{ Addr string }
	if err := json.Unmarshal([]byte(r.must("", "ps", "-a", "shop", "--json")), &list); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0].Addr + ":3000"
}

// TestReverseProxy is the peer of Go's own: it serves until it is killed.
func TestReverseProxy(t *testing.T) {
	addr, target, ok := strings.Cut(os.Getenv("REVERSE_PROXY"), " ")
	if !ok {
		t.Skip("a helper of TestBench")
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 128}
	t.Fatal(http.ListenAndServe(addr, proxy))
}

// measure loads a proxy for a while. The loader knows the app by its name, for that is what a
// certificate is chosen by; nobody else sees the file of names.
func (x *proxy) measure(t *testing.T, hosts string) {
	t.Helper()
	before := cpuTime(x.pid)
	const script = `mount --bind "$0" /etc/hosts && exec taskset -c 1 wrk -t1 -c64 -d4s --latency "$1"`
	out, err := exec.Command("unshare", "-m", "sh", "-c", script, hosts, x.url).CombinedOutput()
	if err != nil || strings.Contains(string(out), "Non-2xx") {
		t.Fatalf("wrk: %v\n%s", err, out)
	}
	used := cpuTime(x.pid) - before
	m := regexp.MustCompile(`(\d+) requests in`).FindSubmatch(out)
	tail := regexp.MustCompile(`99%\s+(\S+)`).FindSubmatch(out)
	if m == nil || tail == nil || number(t, string(m[1])) == 0 {
		t.Fatalf("wrk: %s", out)
	}
	x.cost = append(x.cost, float64(used.Microseconds())/float64(number(t, string(m[1]))))
	x.p99 = string(tail[1])
}
