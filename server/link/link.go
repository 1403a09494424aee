package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/api/machine"
	"slipway/raftstore"
)

const (
	// greeting begins a connection between servers; the epoch follows.
	greeting = "slipway-raft/1 "
	// greetingMax bounds the time for TLS and greeting, greetingSize its length in bytes.
	greetingMax  = 10 * time.Second
	greetingSize = 256
)

// Link carries Raft between the servers of one rack: TLS on both sides, both with certificates of
// servers of the rack, and only between servers of the same epoch. It implements
// raft.StreamLayer.
type Link struct {
	listener net.Listener
	identity *machine.Identity
	epoch    string
	log      *slog.Logger

	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once

	mu     sync.Mutex
	admits func(machine.Name) error   // see Admits; nil admits all
	agrees func(raftstore.Claim) bool // see Agrees; nil agrees with none
	live   map[*greeted]bool
}

var _ raft.StreamLayer = (*Link)(nil)

// New serves Raft on a listener. The epoch is that of the data directory.
func New(l net.Listener, identity *machine.Identity, epoch string, log *slog.Logger) *Link {
	k := &Link{listener: l, identity: identity, epoch: epoch, log: log, accepted: make(chan net.Conn), closed: make(chan struct{}), live: map[*greeted]bool{}}
	go k.serve()
	return k
}

// Admits has every server judged by check as well, which knows who was removed.
func (k *Link) Admits(check func(machine.Name) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.admits = check
}

// Recheck ends the connections that would not be made any more: their certificates have expired, the
// authority that signed them was removed, or the server was.
func (k *Link) Recheck() {
	k.mu.Lock()
	live := slices.Collect(maps.Keys(k.live))
	k.mu.Unlock()
	for _, g := range live {
		s := g.Conn.(*tls.Conn).ConnectionState()
		err := k.identity.Check(s)
		if name, named := machine.NameOf(s.PeerCertificates[0]); err == nil && named {
			err = k.judge(name)
		}
		if err != nil {
			k.log.Info("connection of a server ended", "from", g.RemoteAddr().String(), "err", err)
			g.Close()
		}
	}
}

// judge reports why a server must not connect.
func (k *Link) judge(name machine.Name) error {
	k.mu.Lock()
	admits := k.admits
	k.mu.Unlock()
	if admits == nil {
		return nil
	}
	return admits(name)
}

// keep has a connection judged as long as it lasts.
func (k *Link) keep(g *greeted) *greeted {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.live[g] = true
	return g
}

// Transport returns the transport of a Store over the link.
func (k *Link) Transport() raft.Transport {
	return raftstore.NewTransport(k, k.log)
}

func (k *Link) serve() {
	for {
		conn, err := k.listener.Accept()
		if err != nil {
			select {
			case <-k.closed:
				return
			case <-time.After(100 * time.Millisecond): // out of descriptors, for one
				continue
			}
		}
		go func() {
			greeted, err := k.welcome(conn)
			if err != nil && !errors.Is(err, io.EOF) { // at once: somebody looked whether there is a process
				k.log.Warn("connection of a server refused", "from", conn.RemoteAddr().String(), "err", err)
			}
			if err != nil || greeted == nil {
				conn.Close()
				return
			}
			select {
			case k.accepted <- greeted:
			case <-k.closed:
				greeted.Close()
			}
		}()
	}
}

// welcome finds out who has connected, and answers. It returns nil for one who asked something and has
// the answer.
func (k *Link) welcome(raw net.Conn) (net.Conn, error) {
	if err := raw.SetDeadline(time.Now().Add(greetingMax)); err != nil {
		return nil, err
	}
	conn := tls.Server(raw, k.identity.Server())
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	peer, known := machine.Peer(conn.ConnectionState())
	if !known || peer.Role != machine.RoleServer {
		return nil, api.Errorf(api.CodeDenied, "only servers of the rack speak Raft, this is %q", peer)
	}
	if err := k.judge(peer); err != nil {
		return nil, err
	}
	g := k.greeted(conn)
	line, err := g.line()
	if err != nil {
		return nil, err
	}
	epoch, claims := strings.CutPrefix(line, claimGreeting)
	if !claims {
		var raft bool
		if epoch, raft = strings.CutPrefix(line, greeting); !raft {
			return nil, api.Errorf(api.CodeInvalid, "%s greets with %.40q", peer, line)
		}
	}
	answer := "ok"
	if epoch != k.epoch {
		answer = "epoch " + k.epoch
	}
	if _, err := fmt.Fprintln(conn, answer); err != nil {
		return nil, err
	}
	if epoch != k.epoch {
		return nil, k.foreign(peer.ID, epoch)
	}
	if claims {
		return nil, k.answer(g)
	}
	return k.keep(g), raw.SetDeadline(time.Time{})
}

// foreign is the error of two servers whose rack went on without one of them.
func (k *Link) foreign(peer, epoch string) error {
	if raftstore.NewerEpoch(epoch, k.epoch) {
		return api.Errorf(api.CodeDenied, "the rack was recovered without this server (epoch %s, here %s); empty its data directory and join it again", epoch, k.epoch)
	}
	return api.Errorf(api.CodeDenied, "server %s is of before the rack was recovered (epoch %s, here %s); empty its data directory and join it again", peer, epoch, k.epoch)
}

// Dial connects to another server.
func (k *Link) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	g, err := k.dial(ctx, string(addr), greeting)
	if err != nil {
		return nil, err
	}
	if err := g.SetDeadline(time.Time{}); err != nil {
		g.Close()
		return nil, fmt.Errorf("reach the server at %s: %w", addr, err)
	}
	return k.keep(g), nil
}

// dial connects to a server with a greeting. The connection has the deadline of ctx.
func (k *Link) dial(ctx context.Context, addr, greeting string) (*greeted, error) {
	dialer := tls.Dialer{Config: k.identity.Client(machine.RoleServer)}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("reach the server at %s: %w", addr, err)
	}
	g := k.greeted(conn)
	if err := k.greet(ctx, g, greeting); err != nil {
		conn.Close()
		return nil, fmt.Errorf("reach the server at %s: %w", addr, err)
	}
	return g, nil
}

func (k *Link) greet(ctx context.Context, g *greeted, greeting string) error {
	deadline, _ := ctx.Deadline()
	if err := g.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(g.Conn, greeting+k.epoch); err != nil {
		return err
	}
	line, err := g.line()
	if err != nil {
		return err
	}
	if epoch, other := strings.CutPrefix(line, "epoch "); other {
		return k.foreign("at the other end", epoch)
	}
	if line != "ok" {
		return api.Errorf(api.CodeInvalid, "it answers %.40q", line)
	}
	return nil
}

// Accept returns the next connection of another server.
func (k *Link) Accept() (net.Conn, error) {
	select {
	case conn := <-k.accepted:
		return conn, nil
	case <-k.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener. Connections are ended by their users.
func (k *Link) Close() error {
	k.once.Do(func() { close(k.closed) })
	if err := k.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Addr returns where others reach this server.
func (k *Link) Addr() net.Addr { return k.listener.Addr() }

// greeted is a connection whose greeting may have been read together with what follows.
type greeted struct {
	net.Conn
	in   *bufio.Reader
	link *Link
}

func (k *Link) greeted(conn net.Conn) *greeted {
	return &greeted{Conn: conn, in: bufio.NewReader(conn), link: k}
}

// Close ends the connection.
func (g *greeted) Close() error {
	g.link.mu.Lock()
	delete(g.link.live, g)
	g.link.mu.Unlock()
	return g.Conn.Close()
}

// Read reads what follows the greeting.
func (g *greeted) Read(b []byte) (int, error) { return g.in.Read(b) }

// line reads one line of the greeting.
func (g *greeted) line() (string, error) {
	var line []byte
	for len(line) < greetingSize {
		c, err := g.in.ReadByte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			return string(line), nil
		}
		line = append(line, c)
	}
	return "", api.Errorf(api.CodeInvalid, "the greeting is longer than %d bytes", greetingSize)
}
