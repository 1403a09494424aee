package build

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// egress decides which addresses a build may talk to. A build is code of a stranger: it may
// use the outside world, but not what the machine keeps for itself.
type egress struct {
	deny []netip.Prefix
	// local lists the machine's own addresses at this moment.
	local func() ([]net.Addr, error)
}

// check reports why addr is refused, or nil.
func (e egress) check(addr netip.Addr) error {
	addr = addr.Unmap()
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsLoopback(), addr.IsMulticast(),
		addr.IsLinkLocalUnicast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("builds may not reach the local address %s", addr)
	}
	for _, p := range e.deny {
		if p.Contains(addr) {
			return fmt.Errorf("builds may not reach %s, which is in the rack's network %s", addr, p)
		}
	}
	addrs, err := e.local()
	if err != nil {
		return fmt.Errorf("list the machine's addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr {
			return fmt.Errorf("builds may not reach %s, an address of the node itself", addr)
		}
	}
	return nil
}

// control refuses a connection when its name has been resolved, so that no later answer of a
// name server can change the address that was checked.
func (e egress) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return e.check(ap.Addr())
}

// hostNet runs code in the network namespace of the machine, which the engine is not in.
type hostNet struct{ host, own *netnsFile }

// netnsFile is an open network namespace.
type netnsFile struct{ fd int }

// do calls fn with the calling thread in the machine's namespace. Sockets that fn makes on
// this goroutine stay there.
func (h hostNet) do(fn func() error) error {
	runtime.LockOSThread()
	if err := unix.Setns(h.host.fd, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the machine's network: %w", err)
	}
	err := fn()
	if back := unix.Setns(h.own.fd, unix.CLONE_NEWNET); back != nil {
		// The thread stays locked and ends with its goroutine: nothing else may run on it.
		return fmt.Errorf("leave the machine's network: %w", back)
	}
	runtime.UnlockOSThread()
	return err
}

// dial connects from the machine's namespace. Names are resolved before, because the resolver
// may use other threads.
func (h hostNet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ips := []string{host}
	if _, err := netip.ParseAddr(host); err != nil {
		if ips, err = net.DefaultResolver.LookupHost(ctx, host); err != nil {
			return nil, err
		}
	}
	var conn net.Conn
	for _, ip := range ips {
		err = h.do(func() error {
			var dialer net.Dialer
			var err error
			conn, err = dialer.DialContext(ctx, network, net.JoinHostPort(ip, port))
			return err
		})
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (h hostNet) addrs() (addrs []net.Addr, err error) {
	err = h.do(func() error {
		addrs, err = net.InterfaceAddrs()
		return err
	})
	return addrs, err
}
