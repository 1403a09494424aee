package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/api"
	"slipway/api/client"
)

// TestARackComesBackFromItsBackup: a machine that never saw the rack goes on with its apps, its
// environments and its tokens, and the servers of before cannot interfere.
func TestARackComesBackFromItsBackup(t *testing.T) {
	cfg := among(t, 1)
	cfg.Bootstrap = true
	first := start(t, cfg)
	<-first.Ready()
	rack := admin(t, first, []*member{first})
	if _, err := rack.CreateApp(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "backup")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := rack.Backup(t.Context(), f, "correct horse battery staple"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if b, err := os.ReadFile(file); err != nil || strings.Contains(string(b), "shop") {
		t.Fatalf("the backup can be read: %v", err)
	}
	fresh := among(t, 2)
	if _, err := Restore(fresh, file, "wrong"); err == nil {
		t.Fatal("a wrong passphrase restores")
	}
	if _, err := Restore(fresh, file, "correct horse battery staple"); err != nil {
		t.Fatal(err)
	}
	first.end()
	second := start(t, fresh)
	<-second.Ready()
	again, err := client.Dial(t.Context(), client.Context{Addr: fresh.GRPCAddr, CA: first.file(t, TrustFile), Token: first.file(t, AdminTokenFile)})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.App(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if _, err := again.CreateApp(t.Context(), "blog"); err != nil {
		t.Fatal(err)
	}
	await(t, "record of the one server", func() (string, bool) {
		servers, err := again.Servers(t.Context())
		return fmt.Sprint(servers, err), err == nil && len(servers) == 1 && servers[0].Addr == fresh.GRPCAddr
	})
	third := among(t, 3)
	third.Join, third.Token = []string{fresh.GRPCAddr}, first.file(t, JoinServerTokenFile)
	joined := start(t, third)
	await(t, "app on the server that joins", func() (string, bool) {
		_, ok := joined.store.View().App("blog")
		return "", ok
	})
}

// TestOneSurvivorGoesOn: two of three servers are lost. The third is told to go on, keeps what was
// acknowledged, and does not let the others back in.
func TestOneSurvivorGoesOn(t *testing.T) {
	all := three(t)
	rack := admin(t, all[0], all)
	if _, err := rack.CreateApp(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	survivor := all[2]
	await(t, "app on the survivor", func() (string, bool) {
		_, ok := survivor.store.View().App("shop")
		return "", ok
	})
	for _, m := range all {
		m.end()
	}
	if _, err := Recover(survivor.cfg); err != nil {
		t.Fatal(err)
	}
	back := survivor.cfg
	back.Join = nil
	alone := start(t, back)
	again := admin(t, all[0], []*member{alone})
	if _, err := again.App(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if _, err := again.CreateApp(t.Context(), "blog"); err != nil {
		t.Fatal(err)
	}
	for _, lost := range all[:2] {
		cfg := lost.cfg
		cfg.Bootstrap, cfg.Join = false, nil
		start(t, cfg)
	}
	if _, err := again.CreateApp(t.Context(), api.AppName("late")); err != nil {
		t.Fatalf("with the lost servers back: %v", err)
	}
	if servers, err := again.Servers(t.Context()); err != nil || len(servers) != 1 {
		t.Errorf("servers %v, %v", servers, err)
	}
}
