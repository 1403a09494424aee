package auth

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// method is one method of the .proto files.
type method struct {
	path   string
	in     protoreflect.MessageType
	stream bool
}

// methods lists every method that a server could offer, in order.
func methods(t *testing.T) []method {
	t.Helper()
	var out []method
	for _, file := range []protoreflect.FileDescriptor{pb.File_control_proto, pb.File_agent_proto, pb.File_join_proto} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				in, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, method{
					path: fmt.Sprintf("/%s/%s", service.FullName(), m.Name()), in: in, stream: m.IsStreamingClient() || m.IsStreamingServer(),
				})
			}
		}
	}
	return out
}

// request is a message of a method. An app is filled in wherever the message has room for one.
func (m method) request(app string) proto.Message {
	message := m.in.New().Interface()
	if f, ok := message.(*pb.Frame); ok {
		f.Kind = &pb.Frame_Open{Open: &pb.Open{Kind: "exec", App: app}}
		return f
	}
	if field := message.ProtoReflect().Descriptor().Fields().ByName("app"); field != nil {
		message.ProtoReflect().Set(field, protoreflect.ValueOfString(app))
	}
	return message
}

// hasApp reports whether a request says which app it is about.
func (m method) hasApp() bool { return proto.Size(m.request("hello")) != proto.Size(m.request("")) }

// fixture is a guarded server of every method. Each handler answers with nothing: whoever gets
// so far was let in.
type fixture struct {
	state   *state.State
	conn    *grpc.ClientConn            // of people
	conns   map[string]*grpc.ClientConn // of machines
	secrets map[string]string
}

// View implements Viewer.
func (f *fixture) View() *state.View { return f.state.View() }

var now = time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{state: state.New(), secrets: map[string]string{"nobody": "", "unknown": NewSecret(), "revoked": NewSecret()}}
	index := uint64(0)
	apply := func(cmd state.Command) {
		index++
		if r := f.state.Apply(index, state.Entry{At: now, Command: cmd}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for name, token := range map[string]state.Token{
		"admin": {Role: RoleAdmin}, "deployer": {Role: RoleDeployer}, "viewer": {Role: RoleViewer},
		"join-agent": {Role: RoleJoinAgent}, "join-server": {Role: RoleJoinServer}, "no-role": {}, "other-role": {Role: "owner"},
		"scoped": {Role: RoleDeployer, Apps: []api.AppName{"hello"}}, "expired": {Role: RoleAdmin, Expires: now},
	} {
		f.secrets[name] = NewSecret()
		token.ID, token.Name, token.Hash = name, name, Hash(f.secrets[name])
		apply(state.PutToken{Token: token})
	}
	apply(state.PutToken{Token: state.Token{ID: "revoked", Name: "revoked", Role: RoleAdmin, Hash: Hash(f.secrets["revoked"])}})
	apply(state.DeleteToken{ID: "revoked"})

	ca := newCA(t)
	self := newMachine(t, ca, machine.Name{Cluster: "c1", Role: machine.RoleServer, ID: "s1"})
	options := append(NewGuard(f, func() time.Time { return now }).ServerOptions(nil), grpc.Creds(credentials.NewTLS(self.Server())))
	server := grpc.NewServer(options...)
	for _, service := range descriptions(methods(t)) {
		server.RegisterService(service, nil)
	}
	listener := bufconn.Listen(1 << 20)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-ended
	})
	dial := func(conf *tls.Config) *grpc.ClientConn {
		conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(credentials.NewTLS(conf)),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
			grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	people, err := machine.NewTrust(ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	f.conn = dial(people.Client())
	f.conns = map[string]*grpc.ClientConn{
		"node":          dial(newMachine(t, ca, machine.Name{Cluster: "c1", Role: machine.RoleAgent, ID: "n1"}).Client(machine.RoleServer)),
		"server":        dial(self.Client(machine.RoleServer)),
		"other-rack":    dial(stranger(t, ca, machine.Name{Cluster: "c2", Role: machine.RoleAgent, ID: "n1"})),
		"other-ca":      dial(stranger(t, newCA(t), machine.Name{Cluster: "c1", Role: machine.RoleServer, ID: "s1"})),
		"an-app's-cert": dial(appCertificate(t, ca)),
	}
	return f
}

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// newMachine is a machine with a certificate.
func newMachine(t *testing.T, ca *CA, name machine.Name) *machine.Identity {
	t.Helper()
	key, request, err := machine.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Machine(time.Now(), time.Hour, name, nil, request)
	if err != nil {
		t.Fatal(err)
	}
	id, err := machine.Keep(t.TempDir(), key, chain, ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// stranger shows the certificate of a machine without asking who answers.
func stranger(t *testing.T, ca *CA, name machine.Name) *tls.Config {
	conf := newMachine(t, ca, name).Client(machine.RoleServer)
	conf.VerifyConnection = nil
	return conf
}

// appCertificate is a client that shows what routers get to serve an app with.
func appCertificate(t *testing.T, ca *CA) *tls.Config {
	cert, err := ca.Issue(time.Now(), "web.shop.rack.test")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true}
}

// descriptions describes services whose handlers take a request and answer with nothing.
func descriptions(all []method) []*grpc.ServiceDesc {
	services := map[string]*grpc.ServiceDesc{}
	for _, m := range all {
		words := strings.Split(m.path, "/")
		if services[words[1]] == nil {
			services[words[1]] = &grpc.ServiceDesc{ServiceName: words[1], HandlerType: (*any)(nil)}
		}
		s := services[words[1]]
		if m.stream {
			s.Streams = append(s.Streams, grpc.StreamDesc{
				StreamName: words[2], ServerStreams: true, ClientStreams: true,
				Handler: func(_ any, stream grpc.ServerStream) error { return stream.RecvMsg(m.in.New().Interface()) },
			})
			continue
		}
		s.Methods = append(s.Methods, grpc.MethodDesc{
			MethodName: words[2],
			Handler: func(srv any, ctx context.Context, decode func(any) error, guard grpc.UnaryServerInterceptor) (any, error) {
				in := m.in.New().Interface()
				if err := decode(in); err != nil {
					return nil, err
				}
				info := &grpc.UnaryServerInfo{Server: srv, FullMethod: m.path}
				return guard(ctx, in, info, func(context.Context, any) (any, error) { return &pb.Empty{}, nil })
			},
		})
	}
	var out []*grpc.ServiceDesc
	for _, s := range services {
		out = append(out, s)
	}
	return out
}

// call calls a method as somebody and returns the code of the answer.
func (f *fixture) call(t *testing.T, who string, m method, request proto.Message) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if secret := f.secrets[who]; secret != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
	}
	conn := f.conn
	if c, ok := f.conns[who]; ok {
		conn = c
	}
	if !m.stream {
		return status.Code(conn.Invoke(ctx, m.path, request, &pb.Empty{}))
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, m.path)
	if err != nil {
		return status.Code(err)
	}
	_ = stream.SendMsg(request) // the reason of a failure comes with RecvMsg
	if err = stream.RecvMsg(&pb.Empty{}); err == io.EOF {
		return codes.OK
	}
	return status.Code(err)
}

// Every method has a right, and every right belongs to a method.
func TestEveryMethodHasARight(t *testing.T) {
	table := rules()
	var all []string
	for _, m := range methods(t) {
		all = append(all, m.path)
		if r, ok := table[m.path]; !ok || r.right == rightNone {
			t.Errorf("method %s has no right; give it one in right.go", m.path)
		}
	}
	for path := range table {
		if !slices.Contains(all, path) {
			t.Errorf("right.go names %s, which no .proto file has", path)
		}
	}
}

// The matrix of roles and methods, to be read in testdata/matrix.txt. UPDATE=1 rewrites it.
func TestMatrix(t *testing.T) {
	f := newFixture(t)
	roles := []string{"admin", "deployer", "viewer", "node", "server", "join-agent", "join-server", "other-rack", "other-ca", "an-app's-cert", "no-role", "other-role", "expired", "revoked", "unknown", "nobody"}
	var b strings.Builder
	row := func(name string, cell func(who string) string) {
		fmt.Fprintf(&b, "%-30s", name)
		for _, who := range roles {
			fmt.Fprintf(&b, "  %-*s", len(who), cell(who))
		}
		b.WriteString("\n")
	}
	row("", func(who string) string { return who })
	line := func(name string, m method, request proto.Message) {
		row(name, func(who string) string {
			switch code := f.call(t, who, m, request); code {
			case codes.OK:
				return "yes"
			case codes.PermissionDenied, codes.Unauthenticated:
				return "-"
			case codes.Unavailable:
				return "x" // not even a connection
			default:
				return code.String()
			}
		})
	}
	for _, m := range methods(t) {
		name := m.path[strings.LastIndex(m.path, "/")+1:]
		switch m.path {
		case control + "Session":
			for _, kind := range []string{"logs", "exec", "attach", "copy_in", "copy_out", "proxy", "another", ""} {
				line(name+" "+kind, m, &pb.Frame{Kind: &pb.Frame_Open{Open: &pb.Open{Kind: kind, App: "hello"}}})
			}
			line(name+" without an open", m, &pb.Frame{})
		case control + "DiffReleases":
			line(name, m, &pb.DiffReleasesRequest{App: "hello"})
			line(name+" with values", m, &pb.DiffReleasesRequest{App: "hello", Reveal: true})
		case control + "WhatIf":
			line(name, m, &pb.WhatIfRequest{App: "hello", Change: &pb.WhatIfRequest_RemoveNode{RemoveNode: "n1"}})
			line(name+" with a manifest", m, &pb.WhatIfRequest{App: "hello", Change: &pb.WhatIfRequest_Deploy{Deploy: "services:"}})
		default:
			line(name, m, m.request("hello"))
		}
	}
	const file = "testdata/matrix.txt"
	got := strings.ReplaceAll(b.String(), " \n", "\n")
	for strings.Contains(got, " \n") {
		got = strings.ReplaceAll(got, " \n", "\n")
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("who may call what has changed:\n%s\nwant\n%s", got, want)
	}
}

// A token of one app reaches that app and no other, however much their names have in common.
func TestScope(t *testing.T) {
	f := newFixture(t)
	for _, m := range methods(t) {
		if !strings.HasPrefix(m.path, control) || !m.hasApp() {
			continue
		}
		right := rules()[m.path]
		if code := f.call(t, "scoped", m, m.request("hello")); code != codes.OK && right.right != RightAdmin {
			t.Errorf("%s of its own app: %s", m.path, code)
		}
		for _, other := range []string{"hello2", "hell", "Hello", "hello ", "hello/", "../hello", "other"} {
			if code := f.call(t, "scoped", m, m.request(other)); code != codes.PermissionDenied {
				t.Errorf("%s of app %q: %s", m.path, other, code)
			}
		}
		want := codes.PermissionDenied
		if right.allApps {
			want = codes.OK // the answer is narrowed to the apps of the token
		}
		if code := f.call(t, "scoped", m, m.request("")); code != want {
			t.Errorf("%s without an app: %s, want %s", m.path, code, want)
		}
	}
}

// What is no method of ours does not exist, for nobody and for an admin.
func TestUnknownMethods(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{
		"/slipway.v1.Control/Nothing", "/slipway.v1.Nobody/GetRack", "/slipway.v1.Control/", "/slipway.v1.Control/GetRack/", "//", "/",
		"/slipway.v1.control/getrack", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/Check",
	} {
		for _, who := range []string{"admin", "nobody"} {
			m := method{path: path}
			if code := f.call(t, who, m, &pb.Empty{}); code != codes.Unimplemented {
				t.Errorf("%s as %s: %s", path, who, code)
			}
		}
	}
	if code := f.call(t, "admin", method{path: "GetRack"}, &pb.Empty{}); code == codes.OK {
		t.Error("a path without a slash was answered")
	}
}

// Size decides nothing about rights: a message below the limit is judged like any other, and one
// above it is refused.
func TestLargeMessages(t *testing.T) {
	f := newFixture(t)
	set := method{path: control + "SetEnv"}
	large := func(size int) *pb.SetEnvRequest {
		return &pb.SetEnvRequest{App: "hello", Set: map[string]string{"A": strings.Repeat("x", size)}}
	}
	for _, c := range []struct {
		who  string
		size int
		want codes.Code
	}{
		{"deployer", 5 << 20, codes.OK}, {"viewer", 5 << 20, codes.PermissionDenied}, {"nobody", 5 << 20, codes.Unauthenticated},
		{"deployer", messageMax, codes.ResourceExhausted}, {"viewer", messageMax, codes.PermissionDenied}, {"nobody", messageMax, codes.Unauthenticated},
	} {
		if code := f.call(t, c.who, set, large(c.size)); code != c.want {
			t.Errorf("%d MiB as %s: %s, want %s", c.size>>20, c.who, code, c.want)
		}
	}
	if code := f.call(t, "deployer", set, large(1)); code != codes.OK {
		t.Errorf("after all that, a small message: %s", code)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+f.secrets["admin"], "x-large", strings.Repeat("y", 1<<20))
	if err := f.conn.Invoke(ctx, control+"GetRack", &pb.GetRackRequest{}, &pb.Empty{}); err == nil {
		t.Error("a head of 1 MiB was accepted")
	}
}

// A secret is a Bearer token and nothing else.
func TestBearer(t *testing.T) {
	f := newFixture(t)
	admin := f.secrets["admin"]
	for _, value := range []string{"", "Bearer", "Bearer ", admin, "bearer " + admin, "Basic " + admin, "Bearer  " + admin, "Bearer " + admin + " ", "Bearer " + strings.ToUpper(admin)} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", value)
		if err := f.conn.Invoke(ctx, control+"GetRack", &pb.GetRackRequest{}, &pb.Empty{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("authorization %q: %v", strings.ReplaceAll(value, admin, "SECRET"), err)
		}
	}
}

// A node's certificate speaks for that node alone.
func TestAuthorizeNode(t *testing.T) {
	as := func(name, role string) context.Context {
		return WithIdentity(t.Context(), Identity{Name: name, Role: role})
	}
	for _, c := range []struct {
		ctx  context.Context
		node api.NodeID
		may  bool
	}{
		{as("node/n1", RoleNode), "n1", true}, {as("node/n1", RoleNode), "", true}, {as("n1", RoleNode), "n1", false},
		{as("node/n1", RoleNode), "n2", false}, {as("node/n1", RoleNode), "n11", false}, {as("node/n1", RoleAdmin), "n1", false},
		{as("node/n1", RoleServer), "n1", false}, {t.Context(), "n1", false},
	} {
		if err := AuthorizeNode(c.ctx, c.node); (err == nil) != c.may {
			i, _ := Caller(c.ctx)
			t.Errorf("%s for node %q: %v", i, c.node, err)
		}
	}
}
