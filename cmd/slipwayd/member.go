package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"slipway/api"
	"slipway/api/client"
	"slipway/api/machine"
	"slipway/api/pb"
)

// member is a node as part of its rack: who it is, and how it reaches the servers.
type member struct {
	dir      string // of the identity
	identity *machine.Identity
	conn     *client.Conn
	hosts    []string
	log      *slog.Logger

	mu   sync.Mutex
	rack machine.Rack
}

// joinRetry is the wait before the servers are asked again to let this node in.
const joinRetry = 2 * time.Second

// enterRack makes this machine a node of its rack: it is one already, or it joins. It tries until
// a server answers.
func enterRack(ctx context.Context, p paths, f agentFlags, j joinFlags, log *slog.Logger) (*member, error) {
	m := &member{dir: p.data("machine"), hosts: nodeHosts(f), log: log}
	var err error
	m.identity, err = machine.Open(m.dir)
	if api.CodeOf(err) == api.CodeNotFound {
		if len(j.servers) == 0 {
			return nil, api.Errorf(api.CodeInvalid, "this machine is part of no rack; use --join HOST:PORT and --token-file FILE")
		}
		err = m.join(ctx, j)
	}
	if err != nil {
		return nil, err
	}
	if m.rack, err = machine.LoadRack(m.dir); err != nil {
		return nil, err
	}
	addrs := m.rack.Grpc()
	for _, a := range j.servers {
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	m.conn, err = client.NewConn(addrs,
		grpc.WithTransportCredentials(credentials.NewTLS(m.identity.Client(machine.RoleServer))), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	return m, err
}

// join asks until a server answers. A refusal is final.
func (m *member) join(ctx context.Context, j joinFlags) error {
	for {
		id, reply, err := machine.Join(ctx, m.dir, machine.Joining{
			Servers: j.servers, Token: j.token,
			Request: &pb.JoinRequest{Role: machine.RoleAgent, Id: string(mintNode()), Host: m.hosts},
			Taken: func(reply *pb.JoinReply) error {
				if err := os.MkdirAll(m.dir, 0o700); err != nil {
					return err
				}
				return machine.Rack{Name: reply.Rack, Servers: machine.Addresses(reply.Servers)}.Keep(m.dir)
			},
		})
		if err == nil {
			m.log.Info("joined", "rack", reply.Rack, "node", id.Name().ID)
			m.identity = id
			return nil
		}
		if code := api.CodeOf(err); code != api.CodeUnavailable && code != api.CodeNotLeader || ctx.Err() != nil {
			return err
		}
		m.log.Warn("not joined yet", "err", err, "retry_in", joinRetry.String())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(joinRetry):
		}
	}
}

// nodeHosts are the names that the node's certificate has beside its identity.
func nodeHosts(f agentFlags) []string {
	var out []string
	if net.ParseIP(f.addr) != nil {
		out = append(out, f.addr)
	}
	if name, err := os.Hostname(); err == nil {
		out = append(out, name)
	}
	return out
}

// servers notes where the servers are now.
func (m *member) servers(s *pb.Servers) {
	list := machine.Addresses(s)
	if len(list) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Equal(list, m.rack.Servers) {
		return
	}
	m.rack.Servers = list
	m.conn.SetServers(m.rack.Grpc())
	if err := m.rack.Keep(m.dir); err != nil {
		m.log.Error("servers not remembered", "err", err)
	}
}

// renew gets a new certificate, and has it used from now on. Connections end with the authority that
// they were made under.
func (m *member) renew(ctx context.Context) error {
	_, before := m.identity.Holds()
	if err := m.identity.Renew(ctx, m.conn, m.hosts); err != nil {
		return err
	}
	_, now := m.identity.Holds()
	return m.conn.Redial(slices.ContainsFunc(before, func(a string) bool { return !slices.Contains(now, a) }))
}

func (m *member) notFollowed(err error) {
	m.log.Warn("the servers do not know whom this node trusts", "err", err)
}

func (m *member) notRenewed(err error) {
	m.log.Warn("certificate of this node not renewed", "err", err)
}

// reportMax bounds the report of why a node does not run.
const reportMax = 5 * time.Second

// report tells the servers why this node does not run, so that whoever asks about it there learns
// more than that it is silent.
func (m *member) report(ctx context.Context, f agentFlags, why error) {
	ctx, cancel := context.WithTimeout(ctx, reportMax)
	defer cancel()
	id := m.identity.Name().ID
	node := api.Node{ID: api.NodeID(id), Name: id, Addr: f.addr, Version: version, Problem: why.Error()}
	if name, err := os.Hostname(); err == nil {
		node.Name = name
	}
	if _, err := pb.NewAgentsClient(m.conn).Register(ctx, &pb.RegisterRequest{Node: pb.Marshal(node)}); err != nil {
		m.log.Warn("the servers do not know why this node does not run", "err", pb.FromError(err))
	}
}
