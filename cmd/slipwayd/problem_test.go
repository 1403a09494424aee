package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/api"
	"slipway/api/client"
	"slipway/server"
)

// TestAgentSaysWhyItDoesNotStart: a machine that has joined and cannot be a node is down, and whoever
// asks about it at the servers reads what is wrong with it.
func TestAgentSaysWhyItDoesNotStart(t *testing.T) {
	b := newBay(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	writer := filepath.Join(filepath.Dir(self), "sliplog")
	if err := os.Link(b.p.data("sliplog"), writer); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := serverFlags{dir: dir, rack: "test", domain: "rack.test", grpcAddr: "127.0.0.1:0", httpAddr: "127.0.0.1:0", raftAddr: "127.0.0.1:0", bootstrap: true}
	config := f.config(slog.New(slog.DiscardHandler))
	config.Alone, config.Network = true, "10.192.0.0/10"
	s, err := server.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	<-s.Ready()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	err = runAgent(t.Context(), b.p, agentFlags{containerd: containerdOwn, addr: "10.192.0.7"}, joinFlags{servers: []string{s.GRPCAddr()}, token: read(server.JoinAgentTokenFile)}, log)
	const want = "the address 10.192.0.7 of this node lies inside the rack's network 10.192.0.0/10"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("the agent ended with %v", err)
	}
	rack, err := client.Dial(t.Context(), client.Context{Addr: s.GRPCAddr(), CA: string(s.Trust()), Token: read(server.AdminTokenFile)})
	if err != nil {
		t.Fatal(err)
	}
	defer rack.Close()
	nodes, err := rack.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Status != api.NodeDown || !strings.Contains(nodes[0].Problem, want) {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
}
