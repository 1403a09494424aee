package auth

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
)

// Unary returns the interceptor of plain calls.
func (g *Guard) Unary() grpc.UnaryServerInterceptor {
	table := rules()
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		who, r, err := g.admit(ctx, table, info.FullMethod)
		if err != nil {
			return nil, err
		}
		if err := check(who, r, request); err != nil {
			return nil, pb.Error(err)
		}
		return next(WithIdentity(ctx, who), request)
	}
}

// recheck is how long a stream may go on after its token has expired or was revoked.
const recheck = 10 * time.Second

// Stream returns the interceptor of streams. What a stream is about stands in its first
// message, which is checked before the handler sees it. A stream ends with its token.
func (g *Guard) Stream() grpc.StreamServerInterceptor {
	table := rules()
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		who, r, err := g.admit(stream.Context(), table, info.FullMethod)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancelCause(WithIdentity(stream.Context(), who))
		var watch sync.WaitGroup
		watch.Go(func() { g.watch(ctx, cancel, r) })
		err = next(srv, &checkedStream{ServerStream: stream, who: who, rule: r, ctx: ctx})
		cause := context.Cause(ctx)
		cancel(nil)
		watch.Wait()
		if api.CodeOf(cause) == api.CodeDenied && err != nil {
			return status.Error(codes.Unauthenticated, cause.Error())
		}
		return err
	}
}

// watch cancels a stream when the token or the certificate of its caller is good no more.
func (g *Guard) watch(ctx context.Context, cancel context.CancelCauseFunc, r rule) {
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := g.caller(ctx, r); err != nil {
				cancel(api.Errorf(api.CodeDenied, "%s", status.Convert(err).Message()))
				return
			}
		}
	}
}

// admit finds the caller and the rule of a method, and applies what does not depend on the
// request.
func (g *Guard) admit(ctx context.Context, table map[string]rule, method string) (Identity, rule, error) {
	r, known := table[method]
	if !known {
		return Identity{}, rule{}, status.Errorf(codes.Unimplemented, "method %s does not exist", method)
	}
	who, err := g.caller(ctx, r)
	if err != nil {
		return Identity{}, rule{}, err
	}
	if _, err := pb.Reason(ctx); err != nil {
		return Identity{}, rule{}, pb.Error(err)
	}
	return who, r, nil
}

// caller finds out who calls, and that a rule lets them.
func (g *Guard) caller(ctx context.Context, r rule) (who Identity, err error) {
	switch {
	case r.right == RightAnyone:
		return Identity{}, nil
	case r.right.ofMachines():
		who, err = g.machine(ctx)
	default:
		var secret string
		if secret, err = bearer(ctx); err != nil {
			return Identity{}, err
		}
		who, err = g.Identify(secret)
	}
	if pb.IsRemoved(err) {
		return Identity{}, err
	}
	if err != nil {
		return Identity{}, status.Error(codes.Unauthenticated, err.Error())
	}
	if !who.Can(r.right) {
		return Identity{}, pb.Error(denied(who, r.right))
	}
	return who, nil
}

// machine returns the machine whose certificate the connection was made with.
func (g *Guard) machine(ctx context.Context) (Identity, error) {
	p, _ := peer.FromContext(ctx)
	info, ok := credentials.TLSInfo{}, false
	if p != nil {
		info, ok = p.AuthInfo.(credentials.TLSInfo)
	}
	if !ok {
		return Identity{}, api.Errorf(api.CodeDenied, "the connection carries no certificate of a machine")
	}
	who, err := g.IdentifyMachine(info.State)
	if name, ok := machine.Peer(info.State); ok && err != nil && g.removed(name) {
		return who, pb.Removed(err.Error())
	}
	return who, err
}

// removed reports whether a machine is a node that was removed.
func (g *Guard) removed(name machine.Name) bool {
	return name.Role == machine.RoleAgent && g.store.View().Removed(api.NodeID(name.ID))
}

// bearer returns the secret that a call carries.
func bearer(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get("authorization") {
		if secret, ok := strings.CutPrefix(value, "Bearer "); ok && secret != "" {
			return secret, nil
		}
	}
	return "", status.Error(codes.Unauthenticated, "the call carries no token; run: slipway login")
}

// check applies what depends on the request: its app, and what it asks for beside.
func check(who Identity, r rule, request any) error {
	if r.more != nil {
		if more := r.more(request); !who.Can(more) {
			return denied(who, more)
		}
	}
	app, about := appOf(request)
	switch {
	case !about || len(who.Apps) == 0:
		return nil
	case app == "" && r.allApps:
		return nil
	case !who.May(app):
		return api.Errorf(api.CodeDenied, "token %q does not reach app %q; ask an admin for one that does, and run: slipway login", who.Name, app)
	}
	return nil
}

// appOf returns the app that a request is about; false for one that is about none.
func appOf(request any) (api.AppName, bool) {
	if f, ok := request.(*pb.Frame); ok {
		return api.AppName(f.GetOpen().GetApp()), true
	}
	if r, ok := request.(interface{ GetApp() string }); ok {
		return api.AppName(r.GetApp()), true
	}
	return "", false
}

func denied(who Identity, r Right) error {
	return api.Errorf(api.CodeDenied, "token %q has the role %s, which may not %s; ask an admin for one that may, and run: slipway login", who.Name, who.Role, r)
}

// checkedStream checks the first message that comes in. One goroutine receives, as with every
// stream.
type checkedStream struct {
	grpc.ServerStream
	ctx     context.Context //nolint:containedctx // grpc.ServerStream hands its context out.
	who     Identity
	rule    rule
	checked bool
}

// Context returns the context with the caller in it.
func (s *checkedStream) Context() context.Context { return s.ctx }

// RecvMsg receives a message and refuses the stream if the first one asks for too much.
func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if s.checked {
		return nil
	}
	if s.rule.right.ofMachines() { // a tunnel's frame names an app as well
		s.checked = true
		return nil
	}
	if err := check(s.who, s.rule, m); err != nil {
		return pb.Error(err)
	}
	s.checked = true
	return nil
}
