package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// runRoot holds what does not outlive a reboot. It is short: paths of sockets are at most 107
// bytes.
const runRoot = "/run/slipway"

// paths are where a rack on this machine keeps things.
type paths struct {
	Dir string // data, absolute
	Run string // sockets, namespaces
	Tag string // tells racks on this machine apart
}

// locate derives all paths from the data directory.
func locate(dir string) (paths, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return paths{}, fmt.Errorf("data directory %s: %w", dir, err)
	}
	sum := sha256.Sum256([]byte(abs))
	p := paths{Dir: abs, Tag: hex.EncodeToString(sum[:4])}
	p.Run = filepath.Join(runRoot, p.Tag)
	return p, nil
}

// create is locate for a program that keeps things there: it makes the two roots.
func create(dir string) (paths, error) {
	p, err := locate(dir)
	if err != nil {
		return paths{}, err
	}
	for _, d := range []string{p.Dir, p.Run} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return paths{}, fmt.Errorf("directory: %w", err)
		}
	}
	return p, nil
}

func (p paths) data(name string) string { return filepath.Join(p.Dir, name) }
func (p paths) run(name string) string  { return filepath.Join(p.Run, name) }

func (p paths) containerdSocket() string { return p.run("containerd.sock") }
func (p paths) routerSocket() string     { return p.run("router.sock") }
func (p paths) readyFile() string        { return p.data("ready") }

// namespace and cgroup of the containers.
func (p paths) namespace() string { return "slipway-" + p.Tag }

// sliplog is the log writer beside this program.
func sliplog() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "sliplog")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find the log writer beside %s: %w; build it with: make build", self, err)
	}
	return path, nil
}
