package network

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"slipway/api"
)

// procDir is where the kernel tells of its processes and sockets.
const procDir = "/proc"

// listener names the program of the node that listens on a port; "" if none does. A port that
// led to a process in spite of it would take the program's traffic away.
func listener(proc string, p api.HostPort) (string, error) {
	for _, version := range []string{"", "6"} {
		// Of the thread, not of the process: the main thread may be one that has made a namespace.
		inode, err := boundSocket(filepath.Join(proc, "thread-self/net", string(p.Protocol)+version), p)
		if err != nil {
			return "", err
		}
		if inode != "" {
			return owner(proc, inode), nil
		}
	}
	return "", nil
}

// boundSocket finds the socket that takes what comes to a port: its inode, "" for none. A file
// that is not there is a protocol that the kernel does not have.
func boundSocket(file string, p api.HostPort) (inode string, err error) {
	// States of sockets that have no peer (net/tcp_states.h): TCP listens, UDP is "closed".
	waiting := map[api.Protocol]string{api.TCP: "0A", api.UDP: "07"}[p.Protocol]
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ports in use: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != waiting {
			continue
		}
		_, port, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(port, 16, 16); err == nil && int(n) == p.Host {
			return fields[9], nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("ports in use: %w", err)
	}
	return "", nil
}

// owner names the process that holds a socket, as well as it can be known.
func owner(proc, inode string) string {
	want := "socket:[" + inode + "]"
	entries, _ := filepath.Glob(filepath.Join(proc, "[0-9]*")) // the pattern is well formed
	for _, dir := range entries {
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue // it has ended
		}
		if slices.ContainsFunc(fds, func(e fs.DirEntry) bool {
			link, err := os.Readlink(filepath.Join(dir, "fd", e.Name()))
			return err == nil && link == want
		}) {
			name, _ := os.ReadFile(filepath.Join(dir, "comm")) // without a name, the number has to do
			return strings.TrimSpace(fmt.Sprintf("process %s %s", filepath.Base(dir), name))
		}
	}
	return "a program"
}
