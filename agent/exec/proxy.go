package exec

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"

	"slipway/api"
	"slipway/runtime"
)

// dialMax bounds the wait for a program inside a container to accept a connection.
const dialMax = 5 * time.Second

// proxy carries bytes between the client and a TCP port of a process until both have ended, or
// the process has closed the connection.
func (c *client) proxy(ctx context.Context, engine Engine, id api.ProcessID, port uint32) error {
	pid, err := pidOf(ctx, engine, id)
	if err != nil {
		return err
	}
	conn, err := dialInside(ctx, fmt.Sprintf("/proc/%d/ns/net", pid), port)
	if err != nil {
		return api.Errorf(api.CodeConflict, "process %s does not accept connections to port %d: %w", id, port, err)
	}
	defer conn.Close()
	// A container that is gone may have left its pid to another.
	if after, err := engine.Inspect(ctx, id); err != nil || after.Pid != pid || after.State != runtime.ContainerRunning {
		return api.Errorf(api.CodeConflict, "process %s ended meanwhile", id)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() { // ends with the client's input, which Serve closes
		_, err := io.Copy(conn, c.stdin)
		c.stdin.CloseWithError(err) // what still comes in is for nobody
		_ = conn.CloseWrite()       // fails when the process was faster
	}()
	if _, err := io.Copy(c.stdout(), conn); err != nil {
		return api.Errorf(api.CodeUnavailable, "the connection to port %d of process %s broke: %w", port, id, err)
	}
	return c.exit(0)
}

// dialInside connects to a port within a network namespace, on the addresses that a program there
// sees as its own machine: what listens on all addresses is reached as well, and nothing else of
// the node is.
func dialInside(ctx context.Context, netns string, port uint32) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: dialMax}
	var conn net.Conn
	err := ns.WithNetNSPath(netns, func(ns.NetNS) (err error) {
		// One literal address at a time: the socket is made on this thread.
		if conn, err = dialer.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))); err == nil {
			return nil
		}
		if six, failed := dialer.DialContext(ctx, "tcp6", net.JoinHostPort("::1", strconv.Itoa(int(port)))); failed == nil {
			conn = six
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}
