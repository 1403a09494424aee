package auth

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"slipway/api/pb"
	"slipway/raftstore/state"
)

// openStream is a stream that nobody sends on.
type openStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc.ServerStream hands its context out.
}

// Context returns the context of the call.
func (s openStream) Context() context.Context { return s.ctx }

// store is a state that changes.
type store struct {
	mu    sync.Mutex
	index uint64
	state *state.State
}

// View implements Viewer.
func (s *store) View() *state.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.View()
}

func (s *store) put(t *testing.T, cmd state.Command) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	if r := s.state.Apply(s.index, state.Entry{At: time.Now(), Command: cmd}); r.Err != nil {
		t.Fatal(r.Err)
	}
}

// A stream ends soon after its token was revoked or has expired, and says so.
func TestStreamEndsWithItsToken(t *testing.T) {
	for name, end := range map[string]func(s *store){
		"revoked": func(s *store) { s.put(t, state.DeleteToken{ID: "t"}) },
		"expired": func(*store) { time.Sleep(time.Hour) }, // virtual
	} {
		synctest.Test(t, func(t *testing.T) {
			s, secret := &store{state: state.New()}, NewSecret()
			s.put(t, state.PutToken{Token: state.Token{ID: "t", Name: "t", Role: RoleDeployer, Hash: Hash(secret), Expires: time.Now().Add(time.Hour)}})
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+secret))
			ended := make(chan error, 1)
			go func() {
				guard := NewGuard(s, time.Now).Stream()
				ended <- guard(nil, openStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: control + "Events"}, func(_ any, stream grpc.ServerStream) error {
					<-stream.Context().Done()
					return pb.Error(stream.Context().Err())
				})
			}()
			time.Sleep(30 * time.Minute) // virtual
			select {
			case err := <-ended:
				t.Fatalf("%s: the stream ended too early: %v", name, err)
			default:
			}
			end(s)
			began := time.Now()
			if err := <-ended; status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s: %v", name, err)
			}
			if waited := time.Since(began); waited > recheck {
				t.Errorf("%s: it went on for %s", name, waited)
			}
		})
	}
}

// A stream that ends by itself leaves nothing behind.
func TestStreamEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, secret := &store{state: state.New()}, NewSecret()
		s.put(t, state.PutToken{Token: state.Token{ID: "t", Name: "t", Role: RoleViewer, Hash: Hash(secret)}})
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+secret))
		guard := NewGuard(s, time.Now).Stream()
		for _, want := range []error{nil, status.Error(codes.NotFound, "gone")} {
			err := guard(nil, openStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: control + "Events"}, func(any, grpc.ServerStream) error { return want })
			if err != want {
				t.Errorf("%v, want %v", err, want)
			}
		}
	})
}
