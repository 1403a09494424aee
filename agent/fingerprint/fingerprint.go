package fingerprint

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"slipway/api"
)

// What is kept for the system and the agent itself.
const (
	reservedMemory = 256 * api.MiB
	reservedShare  = 20 // a twentieth of the memory, if that is more
)

// Node reads what the machine is. dir is where images and volumes lie: its file system is the
// disk, and its capacity is what is free now. The caller fills in identity, addresses, pool and labels.
func Node(ctx context.Context, dir string) (api.Node, error) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return api.Node{}, fmt.Errorf("size of memory: %w", err)
	}
	memory, err := memoryTotal(string(info))
	if err != nil {
		return api.Node{}, err
	}
	_, free, err := Disk(dir)
	if err != nil {
		return api.Node{}, err
	}
	name, err := os.Hostname()
	if err != nil {
		return api.Node{}, fmt.Errorf("host name: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return api.Node{}, fmt.Errorf("boot ID: %w", err)
	}
	n := api.Node{
		Name: name, BootID: strings.TrimSpace(string(boot)),
		Capacity:   api.Amount{CPU: api.MilliCPU(goruntime.NumCPU()) * 1000, Memory: memory, Disk: free},
		Reserved:   api.Amount{Memory: max(reservedMemory, memory/reservedShare)},
		Attributes: attributes(ctx),
	}
	return n, nil
}

// Disk returns the size of the file system of a directory, and what of it is free for anybody.
func Disk(dir string) (total, free api.Bytes, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("size of the file system of %s: %w", dir, err)
	}
	block := api.Bytes(fs.Bsize)
	return api.Bytes(fs.Blocks) * block, api.Bytes(fs.Bavail) * block, nil
}

// memoryTotal reads the text of /proc/meminfo (proc(5)).
func memoryTotal(text string) (api.Bytes, error) {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("size of memory: %w", err)
			}
			return api.Bytes(kib) * api.KiB, nil
		}
	}
	return 0, api.Errorf(api.CodeInternal, "/proc/meminfo does not say MemTotal")
}

func attributes(ctx context.Context) map[string]string {
	a := map[string]string{
		"arch": goruntime.GOARCH, "os": goruntime.GOOS, "cpus": strconv.Itoa(goruntime.NumCPU()), "cgroup": "1",
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		a["kernel"] = unix.ByteSliceToString(uts.Release[:])
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		a["cgroup"] = "2"
	}
	if out, err := exec.CommandContext(ctx, "runc", "--version").Output(); err == nil {
		if v := runcVersion(string(out)); v != "" {
			a["runc"] = v
		}
	}
	return a
}

// runcVersion reads what runc says of itself, without the suffix of a distribution; "" if it
// says something else.
func runcVersion(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(first)
	if len(fields) != 3 || fields[1] != "version" {
		return ""
	}
	version, _, _ := strings.Cut(fields[2], "+")
	return version
}
