package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"slipway/api"
	"slipway/api/client"
	"slipway/api/pb"
)

// A program that holds an address, the certificate of the rack's authority and a token asks a rack
// what runs.
func Example() {
	ca, err := os.ReadFile("ca.crt")
	if err != nil {
		ca = nil // the certificate of the rack is then checked as any other
	}
	rack, err := client.Dial(context.Background(), client.Context{
		Addr: "rack.example.com:7420", CA: string(ca), Token: os.Getenv("SLIPWAY_TOKEN"), Dial: exampleNetwork,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer rack.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	apps, err := rack.Apps(ctx)
	if err != nil {
		fmt.Println(api.CodeOf(err)) // nobody answers at that address
	}
	for _, app := range apps {
		fmt.Println(app.Name, app.Status)
	}
	// Output: unavailable
}

// Apps are listed as the token sees them.
func ExampleClient_Apps() {
	rack, end := exampleRack()
	defer end()
	apps, err := rack.Apps(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for _, app := range apps {
		fmt.Println(app.Name, app.Status, app.Release)
	}
	// Output: shop running RAAAAAAAAAA
}

// An environment changes only if nobody else has changed it since it was read.
func ExampleClient_SetEnv() {
	rack, end := exampleRack()
	defer end()
	ctx := context.Background()
	env, release, err := rack.Env(ctx, "shop", "")
	if err != nil {
		log.Fatal(err)
	}
	r, err := rack.SetEnv(ctx, "shop", client.EnvChange{
		Set: map[string]string{"GREETING": env["GREETING"] + ", world"}, IfRelease: string(release),
	})
	if api.CodeOf(err) == api.CodeConflict {
		fmt.Println("somebody was faster") // read it again
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.ID, r.Description)
	// Output: RBBBBBBBBBB env change:GREETING
}

// A deployment is followed to its end: it succeeds with a receipt, or says why it did not.
func ExampleClient_WatchDeployment() {
	rack, end := exampleRack()
	defer end()
	ctx := context.Background()
	d, err := rack.Promote(ctx, "shop", "v2")
	if err != nil {
		log.Fatal(err)
	}
	err = rack.WatchDeployment(ctx, "shop", string(d.ID), func(u api.DeploymentUpdate) error {
		d = u.Deployment
		for _, s := range u.Services {
			fmt.Printf("%s: %d of %d ready\n", s.Name, s.Ready, s.Count)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err) // the connection, not the deployment
	}
	if d.Status != api.DeploySucceeded {
		log.Fatalf("%s: %s", d.Status, d.Cause)
	}
	fmt.Println(d.Status, d.Receipt.Verified)
	// Output:
	// web: 1 of 2 ready
	// web: 2 of 2 ready
	// succeeded true
}

// A command runs in a process of its own, and its exit code comes from the node.
func ExampleClient_Run() {
	rack, end := exampleRack()
	defer end()
	ctx := context.Background()
	p, err := rack.Run(ctx, "shop", client.Run{Service: "web", Command: []string{"bin/migrate"}, Timeout: 10 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	code, err := rack.Attach(ctx, "shop", p.ID, client.Streams{Out: os.Stdout, Err: os.Stderr})
	if err != nil {
		log.Fatal(err) // the session broke: nobody knows how it ended
	}
	fmt.Println("exit code", code)
	// Output:
	// 3 tables changed
	// exit code 0
}

// Errors have a code for programs and a sentence for people.
func ExampleClient_App() {
	rack, end := exampleRack()
	defer end()
	_, err := rack.App(context.Background(), "shp")
	if api.CodeOf(err) == api.CodeNotFound {
		fmt.Println(err)
	}
	// Output: app "shp" not found; did you mean "shop"?
}

// exampleNetwork is a network without a rack.
func exampleNetwork(context.Context, string) (net.Conn, error) { return nil, errors.New("no route") }

// exampleRack is a rack whose answers are written down here, and a client of it.
func exampleRack() (rack *client.Client, end func()) {
	l := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	pb.RegisterControlServer(server, answers{})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///rack", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		log.Fatal(err)
	}
	return client.New(conn), func() {
		_ = conn.Close() // all answers have come
		server.Stop()
		<-ended
	}
}

// answers are those of a rack with the app shop.
type answers struct{ pb.UnimplementedControlServer }

// ListApps implements pb.ControlServer.
func (answers) ListApps(context.Context, *pb.ListAppsRequest) (*pb.Documents, error) {
	return &pb.Documents{Json: [][]byte{pb.Marshal(api.AppInfo{Name: "shop", Status: "running", Release: "RAAAAAAAAAA"})}}, nil
}

// GetApp implements pb.ControlServer.
func (answers) GetApp(_ context.Context, r *pb.AppRequest) (*pb.Document, error) {
	return nil, pb.Error(api.NotFound("app", r.GetApp(), []string{"shop"}))
}

// GetEnv implements pb.ControlServer.
func (answers) GetEnv(context.Context, *pb.ObjectRequest) (*pb.EnvReply, error) {
	return &pb.EnvReply{Env: map[string]string{"GREETING": "hello"}, Release: "RAAAAAAAAAA"}, nil
}

// SetEnv implements pb.ControlServer.
func (answers) SetEnv(_ context.Context, r *pb.SetEnvRequest) (*pb.Document, error) {
	if r.GetIfRelease() != "RAAAAAAAAAA" || r.GetSet()["GREETING"] != "hello, world" {
		return nil, pb.Error(api.Errorf(api.CodeConflict, "the newest release is RAAAAAAAAAA"))
	}
	return &pb.Document{Json: pb.Marshal(api.ReleaseInfo{ID: "RBBBBBBBBBB", Number: 2, Description: "env change:GREETING"})}, nil
}

// Promote implements pb.ControlServer.
func (answers) Promote(context.Context, *pb.ObjectRequest) (*pb.Document, error) {
	return &pb.Document{Json: pb.Marshal(api.Deployment{ID: "DAAAAAAAAAA", App: "shop", Status: api.DeployRunning})}, nil
}

// WatchDeployment implements pb.ControlServer.
func (answers) WatchDeployment(_ *pb.ObjectRequest, out grpc.ServerStreamingServer[pb.Document]) error {
	for ready := 1; ready <= 2; ready++ {
		u := api.DeploymentUpdate{
			Deployment: api.Deployment{ID: "DAAAAAAAAAA", App: "shop", Status: api.DeployRunning},
			Services:   []api.ServiceInfo{{Name: "web", Count: 2, Ready: ready}},
		}
		if ready == 2 {
			u.Deployment.Status, u.Deployment.Receipt = api.DeploySucceeded, &api.Receipt{Verified: true}
		}
		if err := out.Send(&pb.Document{Json: pb.Marshal(u)}); err != nil {
			return err
		}
	}
	return nil
}

// Run implements pb.ControlServer.
func (answers) Run(_ context.Context, r *pb.RunRequest) (*pb.Document, error) {
	return &pb.Document{Json: pb.Marshal(api.ProcessInfo{ID: "paaaaaaaaaa", Service: "web", Command: strings.Join(r.GetCommand(), " ")})}, nil
}

// Session implements pb.ControlServer.
func (answers) Session(s grpc.BidiStreamingServer[pb.Frame, pb.Frame]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	if err := s.Send(&pb.Frame{Kind: &pb.Frame_Stdout{Stdout: []byte("3 tables changed\n")}}); err != nil {
		return err
	}
	return s.Send(&pb.Frame{Kind: &pb.Frame_Exit{Exit: &pb.Exit{}}})
}
