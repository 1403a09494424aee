package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// probeRules use what the rules of a node's network use.
const probeRules = `table ip slipway_check {
	map ports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 192.0.2.1 . 80 }
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local dnat ip to meta l4proto . th dport map @ports
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		ct status dnat accept
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 192.0.2.0/24 ip daddr != 192.0.2.0/24 masquerade
	}
}
`

// probe asks the kernel for all that a node needs of it. dir is where layers of images would lie.
func probe(ctx context.Context, dir string) []probeFact {
	done := make(chan []probeFact)
	go func() {
		// The thread is not given back: it ends with this goroutine, and its namespaces with it.
		goruntime.LockOSThread()
		done <- probeHere(ctx, dir)
	}()
	return <-done
}

// probeHere makes namespaces for this thread, and tries everything in them.
func probeHere(ctx context.Context, dir string) []probeFact {
	names := []string{"overlay", "bridge", "veth", "vxlan", "nftables"}
	err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	tries := []func() error{
		func() error { return tryOverlay(dir) },
		func() error {
			return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "check-br"}})
		},
		func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "check-a"}, PeerName: "check-b"})
		},
		func() error {
			return netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "check-vx"}, VxlanId: 1, Port: vxlanPort})
		},
		func() error { return tryRules(ctx) },
	}
	var out []probeFact
	for i, name := range names {
		p := probeFact{name: name}
		failed := err
		if failed == nil {
			failed = tries[i]()
		}
		if failed != nil {
			p.err = failed.Error()
		}
		out = append(out, p)
	}
	return out
}

// tryOverlay mounts an overlay on directories in dir, writes through it, and unmounts it.
func tryOverlay(dir string) error {
	work, err := os.MkdirTemp(dir, ".slipway-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(work, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(work, "lower", "file"), []byte("lower"), 0o644); err != nil {
		return err
	}
	merged := filepath.Join(work, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", work)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay: %w", err)
	}
	err = os.WriteFile(filepath.Join(merged, "file"), []byte("upper"), 0o644)
	return errors.Join(err, unix.Unmount(merged, unix.MNT_DETACH))
}

func tryRules(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, programMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nft", "-f", "-") // in the namespaces of this thread
	cmd.Stdin = strings.NewReader(probeRules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply rules: %w %s", err, firstLine(string(out)))
	}
	return nil
}

// What is timed of a disk.
const (
	syncCount = 50
	syncSize  = 4096
)

// lookAtDir tries the file system of a data directory, or of the nearest one above it.
func lookAtDir(dir string) dirFacts {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dirFacts{path: dir, err: err.Error()}
	}
	d := dirFacts{path: abs, tried: abs}
	info, err := os.Stat(d.tried)
	for errors.Is(err, os.ErrNotExist) && d.tried != "/" {
		d.tried = filepath.Dir(d.tried)
		info, err = os.Stat(d.tried)
	}
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", d.tried)
	}
	var fs unix.Statfs_t
	if err == nil {
		err = unix.Statfs(d.tried, &fs)
	}
	if err == nil {
		block := api.Bytes(fs.Bsize)
		d.total, d.free = api.Bytes(fs.Blocks)*block, api.Bytes(fs.Bavail)*block
		d.inodes, d.inodesAll = fs.Ffree, fs.Files
		d.filesystem = filesystemName(fs.Type)
		d.syncs, err = timeSyncs(d.tried)
	}
	if err != nil {
		d.err = err.Error()
	}
	return d
}

// filesystemName names a type of file system (statfs(2)); it is a number for one that is not known.
func filesystemName(magic int64) string {
	name := map[int64]string{
		0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x2FC12FC1: "zfs", 0xF2F52010: "f2fs", 0x01021994: "tmpfs", 0x858458F6: "ramfs",
		0x6969: "nfs", 0xFF534D42: "cifs", 0xFE534D42: "smb2", 0x65735546: "fuse", 0x794C7630: "overlay", 0x01021997: "9p", 0x4D44: "vfat", 0x00C36400: "ceph",
	}[magic&0xFFFFFFFF]
	if name == "" {
		return fmt.Sprintf("file system 0x%x", magic&0xFFFFFFFF)
	}
	return name
}

// timeSyncs writes blocks to a file in dir and times how long each takes to be safe. The file
// has its size before, as the log of a server has, and its name is gone at once.
func timeSyncs(dir string) ([]time.Duration, error) {
	f, err := os.CreateTemp(dir, ".slipway-check-")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	block := make([]byte, syncSize)
	for i := range block {
		block[i] = byte(i) // not zeros, which a file system may leave out
	}
	for i := range syncCount {
		if _, err := f.WriteAt(block, int64(i*syncSize)); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	var out []time.Duration
	for i := range syncCount {
		start := time.Now()
		if _, err := f.WriteAt(block, int64(i*syncSize)); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, fmt.Errorf("sync a file in %s: %w", dir, err)
		}
		out = append(out, time.Since(start))
	}
	slices.Sort(out)
	return out, nil
}

// linkTo finds the link that leads to a host; to anywhere, if it is "".
func linkTo(host string) linkFacts {
	target := net.IPv4(192, 0, 2, 1) // of documentation: nobody's
	if host != "" {
		ip, err := net.ResolveIPAddr("ip", host)
		if err != nil {
			return linkFacts{}
		}
		target = ip.IP
	}
	routes, err := netlink.RouteGet(target)
	if err != nil || len(routes) == 0 {
		return linkFacts{}
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return linkFacts{}
	}
	l := linkFacts{name: link.Attrs().Name, mtu: link.Attrs().MTU}
	if routes[0].MTU > 0 && routes[0].MTU < l.mtu {
		l.mtu = routes[0].MTU
	}
	return l
}
