package buildtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway/api"
	"slipway/e2e/images"
)

// TestBaseOfAPrivateRegistry builds on an image that a registry outside the rack gives to those who
// log in. Not parallel: whom the engine trusts is told by the environment.
func TestBaseOfAPrivateRegistry(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("needs root and takes seconds")
	}
	addr := privateRegistry(t)
	b := newBuilder(t, newRack(t))
	right := api.RegistryLogin{Server: addr, Username: user, Password: password}
	wrong := right
	wrong.Password = "canary"
	for _, tt := range []struct {
		name   string
		logins []api.RegistryLogin
		want   string
	}{
		{"none", nil, "slipway registries add " + addr + " USER"},
		{"wrong", []api.RegistryLogin{wrong}, "slipway registries add " + addr + " USER"},
		{"right", []api.RegistryLogin{right}, ""},
		{"none again", nil, "slipway registries add " + addr + " USER"},
	} {
		j, out := job(source{"Dockerfile": "FROM " + addr + "/team/base:1\nRUN env\n"})
		j.Build.Registries = tt.logins
		_, err := b.Build(t.Context(), j)
		if tt.want == "" && err != nil || tt.want != "" && (api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q\n%s", tt.name, err, tt.want, out)
		}
		if text := fmt.Sprint(err, out); strings.Contains(text, "canary") || strings.Contains(text, password) {
			t.Errorf("%s: the password is in:\n%s", tt.name, text)
		}
	}
}

// privateRegistry serves team/base at an address that is not one of this machine, which builds may
// not talk to. The engine will trust its certificate.
func privateRegistry(t *testing.T) (addr string) {
	t.Helper()
	l, ip := outsideListener(t)
	reg := newRegistry(t, t.TempDir())
	cert, ca := certificateOf(t, ip)
	server := httptest.NewUnstartedServer(http.HandlerFunc(reg.ServeHTTP))
	server.Listener.Close()
	server.Listener = l
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)

	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	busybox, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	target := images.Target{Addr: l.Addr().String(), CA: pool, ServerName: ip.String(), User: user, Password: password}
	if _, err := images.Push(t.Context(), target, "team/base:1", busybox); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// outsideListener listens in a network namespace of its own, which this machine reaches by a pair
// of interfaces.
func outsideListener(t *testing.T) (net.Listener, net.IP) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	host, err := netns.Get()
	check(err)
	defer host.Close()
	inside, err := netns.New() // and this thread is in it
	check(err)
	defer func() {
		inside.Close()
		if err := netns.Set(host); err != nil {
			panic(fmt.Sprintf("leave the namespace: %v", err))
		}
	}()
	machine, err := netlink.NewHandleAt(host)
	check(err)
	defer machine.Close()

	// Of the addresses that are set aside for tests of networks.
	pid := os.Getpid()
	near := net.IPv4(198, 18, byte(pid>>6), byte(pid<<2)|1)
	far := net.IPv4(198, 18, byte(pid>>6), byte(pid<<2)|2)
	name := fmt.Sprintf("slb%d", pid)
	check(machine.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(inside)}))
	t.Cleanup(func() {
		link, err := netlink.LinkByName(name)
		if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone {
			return // with the namespace, when its last socket was closed
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			t.Errorf("remove %s: %v", name, err)
		}
	})
	up := func(h *netlink.Handle, name string, ip net.IP) {
		t.Helper()
		link, err := h.LinkByName(name)
		check(err)
		check(h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(30, 32)}}))
		check(h.LinkSetUp(link))
	}
	up(machine, name, near)
	there, err := netlink.NewHandleAt(inside)
	check(err)
	defer there.Close()
	up(there, "eth0", far)
	l, err := net.Listen("tcp4", net.JoinHostPort(far.String(), "0"))
	check(err)
	return l, far
}

// certificateOf makes one for an address, signed by itself.
func certificateOf(t *testing.T, ip net.IP) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{ip}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
