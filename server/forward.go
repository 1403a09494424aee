package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
)

const (
	// forwardedKey marks a call that another server passed on; it is not passed on again.
	forwardedKey = "slipway-forwarded"
	// leaderWait is how long a call waits for somebody to lead.
	leaderWait = 10 * time.Second
	// leaderLook is how often it looks.
	leaderLook = 20 * time.Millisecond
)

// forwarder passes calls of people, and of machines that join, on to the leader. The leader
// authenticates them itself: what they prove themselves with travels along.
type forwarder struct {
	leads func() bool
	// leader returns the address of the leader, "" when nobody leads.
	leader   func() string
	identity *machine.Identity
	dial     []grpc.DialOption
	methods  map[string]method

	mu   sync.Mutex
	addr string
	conn *grpc.ClientConn
	old  *grpc.ClientConn // made with the certificate before; it may carry streams
}

// method is what is needed to pass a call on.
type method struct{ in, out protoreflect.MessageType }

func newForwarder(leads func() bool, leader func() string, identity *machine.Identity, dial ...grpc.DialOption) (*forwarder, error) {
	f := &forwarder{leads: leads, leader: leader, identity: identity, dial: dial, methods: map[string]method{}}
	services := []protoreflect.ServiceDescriptor{
		pb.File_control_proto.Services().ByName("Control"), pb.File_join_proto.Services().ByName("Machines"),
	}
	for _, s := range services {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			in, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
			if err != nil {
				return nil, err
			}
			out, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
			if err != nil {
				return nil, err
			}
			f.methods["/"+string(s.FullName())+"/"+string(m.Name())] = method{in, out}
		}
	}
	// The certificate of the machine that calls does not travel.
	delete(f.methods, pb.Machines_Renew_FullMethodName)
	delete(f.methods, pb.Machines_Report_FullMethodName)
	return f, nil
}

// Passes reports whether a call would be passed on now.
func (f *forwarder) Passes(name string) bool {
	_, known := f.methods[name]
	return known && !f.leads()
}

// Unary answers on the leader, and passes on elsewhere.
func (f *forwarder) Unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	m, known := f.methods[info.FullMethod]
	if !known {
		return next(ctx, request)
	}
	for deadline := time.Now().Add(leaderWait); ; {
		conn, err := f.route(ctx, deadline)
		if err != nil {
			return nil, pb.Error(err)
		}
		if conn == nil {
			return next(ctx, request)
		}
		reply := m.out.New().Interface()
		var trailer metadata.MD
		err = conn.Invoke(outgoing(ctx), info.FullMethod, request, reply, grpc.Trailer(&trailer))
		// A server that is not the leader any more has done nothing.
		if status.Code(err) == codes.Aborted && ctx.Err() == nil && time.Now().Before(deadline) {
			pause(ctx)
			continue
		}
		if len(trailer) > 0 {
			_ = grpc.SetTrailer(ctx, trailer) // fails only for a call that is over
		}
		return reply, err
	}
}

// Stream answers on the leader, and passes on elsewhere.
func (f *forwarder) Stream(srv any, in grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	m, known := f.methods[info.FullMethod]
	if !known {
		return next(srv, in)
	}
	conn, err := f.route(in.Context(), time.Now().Add(leaderWait))
	if err != nil {
		return pb.Error(err)
	}
	if conn == nil {
		return next(srv, in)
	}
	ctx, cancel := context.WithCancel(outgoing(in.Context()))
	defer cancel()
	out, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, info.FullMethod)
	if err != nil {
		return err
	}
	go func() {
		for {
			request := m.in.New().Interface()
			if err := in.RecvMsg(request); err != nil {
				if errors.Is(err, io.EOF) {
					_ = out.CloseSend() // its error comes with RecvMsg
				} else {
					cancel()
				}
				return
			}
			if out.SendMsg(request) != nil { // its error comes with RecvMsg
				return
			}
		}
	}()
	return pump(in, out, m)
}

// pump passes answers back until the leader ends the stream.
func pump(in grpc.ServerStream, out grpc.ClientStream, m method) error {
	for {
		var reply proto.Message = m.out.New().Interface()
		if err := out.RecvMsg(reply); err != nil {
			in.SetTrailer(out.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := in.SendMsg(reply); err != nil {
			return err
		}
	}
}

// route returns the connection to the leader, nil on the leader itself. It waits for one.
func (f *forwarder) route(ctx context.Context, deadline time.Time) (*grpc.ClientConn, error) {
	forwarded := len(metadata.ValueFromIncomingContext(ctx, forwardedKey)) > 0
	for {
		if f.leads() {
			return nil, nil
		}
		addr := f.leader()
		switch {
		case forwarded:
			return nil, api.Errorf(api.CodeNotLeader, "this server does not lead the rack any more")
		case addr != "":
			return f.connect(addr)
		case ctx.Err() != nil || time.Now().After(deadline):
			return nil, api.Errorf(api.CodeUnavailable, "the rack has no leader: a majority of its servers must be up; see: slipway rack servers")
		}
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(leaderLook):
	}
}

// connect returns the connection to an address; the last one is kept.
func (f *forwarder) connect(addr string) (*grpc.ClientConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.addr == addr {
		return f.conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(f.identity.Client(machine.RoleServer))), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax), grpc.MaxCallSendMsgSize(messageMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	}, f.dial...)...)
	if err != nil {
		return nil, api.Errorf(api.CodeUnavailable, "reach the leader at %s: %w", addr, err)
	}
	if old := f.conn; old != nil {
		// Streams of the former leader end by themselves.
		time.AfterFunc(leaderWait, func() { old.Close() })
	}
	f.addr, f.conn = addr, conn
	return conn, nil
}

// redial has later calls go over a new connection, with a new certificate. Streams on the one before
// go on until the next time.
func (f *forwarder) redial() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		return
	}
	if f.old != nil {
		f.old.Close()
	}
	f.addr, f.conn, f.old = "", nil, f.conn
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range []*grpc.ClientConn{f.conn, f.old} {
		if conn != nil {
			conn.Close()
		}
	}
}

// messageMax bounds a message between servers, in bytes.
const messageMax = 32 << 20

// outgoing passes on what a call carries: who calls, and why.
func outgoing(ctx context.Context) context.Context {
	in, _ := metadata.FromIncomingContext(ctx)
	out := metadata.Pairs(forwardedKey, "yes")
	for k, values := range in {
		if k == "authorization" || strings.HasPrefix(k, "slipway-") {
			out[k] = values
		}
	}
	return metadata.NewOutgoingContext(ctx, out)
}
