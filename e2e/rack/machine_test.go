package rack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine lists what a rack in dir could leave behind: processes, mounts, namespaces, bridges,
// firewall tables, control groups and files outside of dir. Things of other racks are not
// listed: their names differ.
func machine(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(dir))
	tag := hex.EncodeToString(sum[:4])
	h := fnv.New32a()
	h.Write([]byte(dir + "/node"))
	link := fmt.Sprintf("%08x", h.Sum32())
	marks := []string{dir + "/", "/run/slipway/" + tag, "slipway-" + tag, "slw" + link, "slipway_" + link}
	ours := func(s string) bool {
		for _, m := range marks {
			if strings.Contains(s, m) {
				return true
			}
		}
		return false
	}
	var b strings.Builder
	for _, file := range globs("/proc/[0-9]*/cmdline") {
		if cmdline, err := os.ReadFile(file); err == nil && ours(string(cmdline)) {
			fmt.Fprintf(&b, "process %s\n", bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v\n%s", err, tables)
	}
	for line := range strings.Lines(string(mounts) + string(tables)) {
		if ours(line) {
			b.WriteString("mount or " + line)
		}
	}
	for _, l := range links {
		if ours(l.Name) {
			fmt.Fprintln(&b, "link", l.Name)
		}
	}
	for _, pattern := range []string{"/run/slipway/*", "/run/containerd/runc/*", "/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*"} {
		for _, path := range globs(pattern) {
			if ours(path) {
				fmt.Fprintln(&b, "path", path)
			}
		}
	}
	return b.String()
}

func globs(pattern string) []string {
	list, _ := filepath.Glob(pattern)
	return list
}
