package control

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"log/slog"
	"strconv"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/state"
)

// Store is what control needs of the replicated state.
type Store interface {
	Propose(ctx context.Context, e state.Entry) (state.Result, error)
	// View returns the newest state that this server knows.
	View() *state.View
	// Linearizable returns a state that holds every write acknowledged before the call.
	Linearizable(ctx context.Context) (*state.View, error)
	// Next returns a view whose index is above after, as soon as there is one.
	Next(ctx context.Context, after uint64) (*state.View, error)
	// Subscribe follows the state from the returned view on, until ctx ends.
	Subscribe(ctx context.Context) (*state.View, <-chan raftstore.Update)
}

// Objects keeps uploaded sources.
type Objects interface {
	// Put stores what r delivers, at most limit bytes, and returns its digest and size.
	Put(ctx context.Context, r io.Reader, limit api.Bytes) (string, api.Bytes, error)
	Has(digest string) bool
}

// Stream is an open stream to an agent.
type Stream interface {
	Send(f *pb.Frame) error
	// Recv returns the next frame of the agent; io.EOF after the last.
	Recv() (*pb.Frame, error)
}

// Agents opens streams to the agents of nodes. A stream ends with its context.
type Agents interface {
	OpenStream(ctx context.Context, node api.NodeID, open *pb.Open) (Stream, error)
}

// Callers tells who makes a call, and what they prove it with.
type Callers interface {
	// Actor is the name that commands are recorded under.
	Actor(ctx context.Context) string
	// Visible reports whether the caller may know of the app.
	Visible(ctx context.Context, app api.AppName) bool
	// Enters reports whether the caller may enter processes, and so see what they are given.
	Enters(ctx context.Context) bool
	// Administers reports whether the caller may change the rack.
	Administers(ctx context.Context) bool
	// NewToken draws the secret of a token, and returns what is kept of it.
	NewToken() (secret string, hash []byte)
}

// Config is what a Server is made of. SourceMax, Version and Servers may be left out.
type Config struct {
	Store   Store
	Keyring Keyring
	Objects Objects
	Agents  Agents
	Callers Callers
	// Scheduler answers questions about placement.
	Scheduler Scheduler
	// Mint returns a random number.
	Mint func() uint64
	Now  func() time.Time
	Log  *slog.Logger
	// SourceMax bounds an uploaded source; 0 means 2 GiB.
	SourceMax api.Bytes
	// Version is what this server says it is.
	Version string
	// AllowPrivileged takes services that can take over their node; nodes have to allow them as
	// well.
	AllowPrivileged bool
	// Servers counts the servers of the rack; nil means one. Members knows them; nil knows none.
	Servers func() int
	Members Members
	// Backup writes all that is needed to restore the rack, encrypted; nil writes nothing.
	Backup func(ctx context.Context, w io.Writer, passphrase string) error
	// NewAuthority makes an authority that is to take the place of the one that signs; nil makes none.
	NewAuthority func() (state.Authority, error)
	// SpreadImage makes the servers hold an image and returns once a majority does; nil for a rack
	// of one.
	SpreadImage func(ctx context.Context, app api.AppName, digest string) error
	// Images is the registry of the rack; nil where there is none.
	Images Images
}

// sourceMaxDefault bounds an uploaded source.
const sourceMaxDefault = 2 * api.GiB

// Server implements pb.ControlServer.
type Server struct {
	pb.UnimplementedControlServer
	cfg     Config
	secrets *Secrets
}

var _ pb.ControlServer = (*Server)(nil)

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.SourceMax == 0 {
		cfg.SourceMax = sourceMaxDefault
	}
	if cfg.Servers == nil {
		cfg.Servers = func() int { return 1 }
	}
	return &Server{cfg: cfg, secrets: NewSecrets(cfg.Keyring)}
}

// request is the circumstances of one writing call.
type request struct {
	id    string // "" when the caller gave none
	actor string
	// reason is why, in the caller's words.
	reason string
	ids    *api.IDs
}

// request begins a writing call.
func (s *Server) request(ctx context.Context, id string) request {
	r := request{id: id, actor: s.cfg.Callers.Actor(ctx)}
	r.reason, _ = pb.Reason(ctx) // a bad one was refused at the door
	if id == "" {
		r.ids = api.NewIDs(s.cfg.Mint())
		return r
	}
	sum := sha256.Sum256([]byte(r.actor + "\x00" + id))
	r.ids = api.NewIDs(binary.BigEndian.Uint64(sum[:]))
	return r
}

// step is the ID of one command within a call; "" when the caller gave none.
func (r request) step(name string) api.RequestID {
	if r.id == "" {
		return ""
	}
	return api.RequestID(r.actor + "/" + r.id + "/" + name)
}

// propose writes one command. step names the command within its call: each is applied once,
// however often the call is made.
func (s *Server) propose(ctx context.Context, r request, step string, cmd state.Command) (state.Result, error) {
	e := state.Entry{Request: r.step(step), At: s.cfg.Now(), Actor: r.actor, Reason: r.reason, Command: cmd}
	res, err := s.cfg.Store.Propose(ctx, e)
	if err != nil {
		return res, err
	}
	if res.Err != nil {
		return res, res.Err
	}
	return res, nil
}

// triesMax bounds how often a change is made anew because others came between. Each time one of
// them succeeded, so this many writers of one object can wait for one another.
const triesMax = 64

// again makes a change from what it reads, which Apply checks, until nobody came between the two.
// make tells whether that was the reason of its error; try names its commands.
func (s *Server) again(ctx context.Context, make func(try string) (overtaken bool, err error)) error {
	for n := range triesMax {
		overtaken, err := make(strconv.Itoa(n))
		if !overtaken {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return api.Errorf(api.CodeConflict, "others change this all the time: %d tries were overtaken; try again", triesMax)
}

// read returns a view that holds every write acknowledged before.
func (s *Server) read(ctx context.Context) (*state.View, error) { return s.cfg.Store.Linearizable(ctx) }

// readApp returns a view and an app in it.
func (s *Server) readApp(ctx context.Context, name string) (*state.View, *api.App, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	a, err := s.findApp(ctx, v, name)
	return v, a, err
}

// findApp returns an app, or an error that suggests one that the caller may see.
func (s *Server) findApp(ctx context.Context, v *state.View, name string) (*api.App, error) {
	if name == "" {
		return nil, api.Errorf(api.CodeInvalid, "no app is named")
	}
	if a, ok := v.App(api.AppName(name)); ok {
		return a, nil
	}
	var known []string
	for a := range v.Apps() {
		if s.cfg.Callers.Visible(ctx, a.Name) {
			known = append(known, string(a.Name))
		}
	}
	return nil, api.NotFoundSee("app", name, known, "slipway apps")
}

// doc answers with a noun.
func doc(noun any, err error) (*pb.Document, error) {
	if err != nil {
		return nil, pb.Error(err)
	}
	return pb.Doc(noun), nil
}

// docs answers with a list of nouns.
func docs[T any](nouns []T, err error) (*pb.Documents, error) {
	if err != nil {
		return nil, pb.Error(err)
	}
	return pb.Docs(nouns), nil
}

// done answers with nothing.
func done(err error) (*pb.Empty, error) {
	if err != nil {
		return nil, pb.Error(err)
	}
	return &pb.Empty{}, nil
}
