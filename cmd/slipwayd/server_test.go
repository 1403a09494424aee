package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"slipway/api/client"
	"slipway/server"
)

// TestPrivilegedServices: a server takes what can take over a node if it was told so, and refuses
// it by name otherwise.
func TestPrivilegedServices(t *testing.T) {
	for allowed, says := range map[bool]string{true: "", false: "service web is privileged"} {
		f := serverFlags{dir: t.TempDir(), rack: "test", domain: "rack.test", grpcAddr: "127.0.0.1:0", httpAddr: "127.0.0.1:0", raftAddr: "127.0.0.1:0", bootstrap: true, privileged: allowed}
		config := f.config(slog.New(slog.DiscardHandler))
		config.Alone = true
		s, err := server.New(t.Context(), config)
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
	rack, err := client.Dial(t.Context(), client.Context{Addr: s.GRPCAddr(), CA: string(s.Trust()), Token: string(token)})
	if err != nil {
		t.Fatal(err)
	}
	defer rack.Close()
	if _, err := rack.CreateApp(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	_, err = rack.CreateBuild(t.Context(), "shop", client.Build{Manifest: "services: {web: {image: busybox, privileged: true}}", ManifestFile: "slipway.yml"})
	return err
}
