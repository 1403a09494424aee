package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/containerd/containerd/v2/client"

	"slipway/api"
)

// systemSocket is where a machine's own containerd listens.
const systemSocket = "/run/containerd/containerd.sock"

// The values of --containerd beside the path of a socket.
const (
	containerdAuto = "auto" // the machine's if it runs, our own otherwise
	containerdOwn  = "own"
)

// ensureContainerd returns the socket of a daemon that answers, and starts one if need be. One
// that is our own is returned as well: it has to be kept running.
func ensureContainerd(ctx context.Context, p paths, which string) (socket string, own *daemon, err error) {
	if which != containerdAuto && which != containerdOwn {
		return which, nil, nil
	}
	if which == containerdAuto && answers(ctx, systemSocket) {
		return systemSocket, nil, nil
	}
	path, err := exec.LookPath("containerd")
	if err != nil {
		return "", nil, api.Errorf(api.CodeUnavailable, "containerd is not installed; install it (Debian: apt-get install containerd runc) or name a socket with --containerd")
	}
	own = containerdDaemon(p, path)
	if answers(ctx, p.containerdSocket()) {
		return p.containerdSocket(), own, nil
	}
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.restart"]
[grpc]
  address = %q
`, p.data("containerd"), p.run("containerd"), p.containerdSocket())
	if err := os.WriteFile(p.data("containerd.toml"), []byte(config), 0o600); err != nil {
		return "", nil, fmt.Errorf("configure containerd: %w", err)
	}
	if err := own.start(); err != nil {
		return "", nil, err
	}
	if !waitFor(ctx, 20*time.Second, func() bool { return answers(ctx, p.containerdSocket()) }) {
		return "", nil, api.Errorf(api.CodeUnavailable, "containerd does not answer; see %s", p.data("containerd.log"))
	}
	return p.containerdSocket(), own, nil
}

func containerdDaemon(p paths, path string) *daemon {
	return &daemon{
		name: "containerd", pidFile: p.run("containerd.pid"), logFile: p.data("containerd.log"),
		args: []string{path, "--config", p.data("containerd.toml")},
	}
}

// answers reports whether a containerd serves a socket.
func answers(ctx context.Context, socket string) bool {
	if _, err := os.Stat(socket); err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := client.New(socket, client.WithTimeout(time.Second))
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = c.Version(ctx)
	return err == nil
}
