package machine

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"slipway/api"
	"slipway/api/pb"
	"slipway/durable"
)

// rackFile holds what a machine remembers of its rack, beside its identity.
const rackFile = "rack.json"

// Rack is what a machine remembers of its rack.
type Rack struct {
	Name    string    `json:"name"`
	Servers []Address `json:"servers"` // the one that led first
}

// Address is where a server is reached.
type Address struct {
	Addr     string `json:"addr"` // by clients and agents
	Registry string `json:"registry"`
}

// Addresses reads what servers say of themselves.
func Addresses(s *pb.Servers) []Address {
	var out []Address
	for _, a := range s.GetServer() {
		out = append(out, Address{a.Addr, a.Registry})
	}
	return out
}

// LoadRack reads what Keep left in the directory of an identity. Without it the error is of code
// not_found.
func LoadRack(dir string) (Rack, error) {
	var r Rack
	b, err := os.ReadFile(filepath.Join(dir, rackFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, api.Errorf(api.CodeNotFound, "%s remembers no rack: %w", dir, err)
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read what is known of the rack: %w", err)
	}
	return r, nil
}

// Keep stores it.
func (r Rack) Keep(dir string) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = durable.WriteFile(filepath.Join(dir, rackFile), b)
	}
	if err != nil {
		return fmt.Errorf("keep what is known of the rack: %w", err)
	}
	return nil
}

// Grpc returns the addresses for clients and agents.
func (r Rack) Grpc() []string {
	var out []string
	for _, s := range r.Servers {
		out = append(out, s.Addr)
	}
	return out
}

// DialFunc opens a connection.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// RegistryDialer returns a function for http.Transport.DialTLSContext that leads api.RackHost to
// the registry of the first server that answers, with the identity that lies in dir: both the
// servers and the certificate may change on disk at any time. Every other host gets TLS as usual.
// A nil dial dials TCP.
func RegistryDialer(dir string, dial DialFunc) DialFunc {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if host != api.RackHost {
			return overTLS(ctx, dial, addr, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
		}
		id, err := Open(dir)
		if err != nil {
			return nil, err
		}
		rack, err := LoadRack(dir)
		if err != nil {
			return nil, err
		}
		failed := api.Errorf(api.CodeUnavailable, "no server of the rack is known")
		for _, s := range rack.Servers {
			conn, err := overTLS(ctx, dial, s.Registry, id.Client(RoleServer))
			if err == nil {
				return conn, nil
			}
			failed = api.Errorf(api.CodeUnavailable, "reach the registry at %s: %w", s.Registry, err)
		}
		return nil, failed
	}
}

func overTLS(ctx context.Context, dial DialFunc, addr string, conf *tls.Config) (net.Conn, error) {
	raw, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}
