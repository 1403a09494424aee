package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/api"
	"slipway/api/pb"
	"slipway/server"
)

// TestPrivilegedServices: a server takes what can take over a node if it was told so, and refuses
// it by name otherwise.
func TestPrivilegedServices(t *testing.T) {
	for allowed, says := range map[bool]string{true: "", false: "service web is privileged"} {
		f := serverFlags{dir: t.TempDir(), rack: "test", domain: "rack.test", grpcAddr: "127.0.0.1:0", httpAddr: "127.0.0.1:0", raft: "127.0.0.1:0", bootstrap: true, privileged: allowed}
		config := f.config(slog.New(slog.DiscardHandler))
		config.Alone = true
		s, err := server.New(config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		select {
		case <-s.Ready():
		case err := <-ended:
			t.Fatalf("the server ended: %v", err)
		}
		if err := buildPrivileged(t, s, f.dir); says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("allowed: %v: %v, want %q", allowed, err, says)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// buildPrivileged asks a server to build an app with a privileged service.
func buildPrivileged(t *testing.T, s *server.Server, dir string) error {
	t.Helper()
	token, err := os.ReadFile(dir + "/" + server.AdminTokenFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CA().PEM())
	secure := credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: api.RackHost, MinVersion: tls.VersionTLS13})
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(secure), grpc.WithPerRPCCredentials(bearer(token)), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	control := pb.NewControlClient(conn)
	if _, err := control.CreateApp(t.Context(), &pb.AppRequest{App: "shop"}); err != nil {
		t.Fatal(err)
	}
	_, err = control.CreateBuild(t.Context(), &pb.CreateBuildRequest{App: "shop", Manifest: "services: {web: {image: busybox, privileged: true}}", ManifestFile: "slipway.yml"})
	return err
}
