package containerd

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"slipway/api"
	"slipway/runtime"
)

// Defaults of limits, where the spec leaves them open.
const (
	pidsDefault = 4096
	cpuPeriod   = 100000 // µs
	cpuQuotaMin = 1000   // µs; the kernel takes no less
	// memoryDefault is the size of a file system in memory.
	memoryDefault = 64 * api.MiB
)

// initPath is where the init program is seen inside.
const initPath = "/.slipway-init"

// capabilities are what a process has unless the spec says otherwise: Docker's set without raw
// sockets, device nodes and the audit log.
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// options turns a spec into the changes to containerd's default one.
func (e *Engine) options(s *runtime.Spec, info runtime.ImageInfo) ([]oci.SpecOpts, error) {
	c, err := s.Resolve(info)
	if err != nil {
		return nil, err
	}
	if s.TTY {
		c.Env = runtime.MergeEnv([]string{"TERM=xterm"}, c.Env)
	}
	if s.Init && e.cfg.Init != "" {
		c.Args = append([]string{initPath, "--"}, c.Args...)
	}
	opts := []oci.SpecOpts{
		checkRootFS(c.WorkDir), oci.WithoutRunMount, ownOOMScore,
		oci.WithEnv(c.Env), oci.WithProcessArgs(c.Args...), oci.WithProcessCwd(c.WorkDir), terminal(s),
		oci.WithCgroup("/" + e.cfg.Cgroup + "/" + string(s.ID)),
		oci.WithCapabilities(capabilitiesOf(s)), limits(s.Limits), network(&s.Network), e.mounts(s),
	}
	if c.User != "" {
		opts = append(opts, withUser(c.User))
	}
	if s.NonRoot {
		opts = append(opts, refuseRoot)
	}
	opts = append(opts, withDevices(s.Devices))
	if s.ReadOnlyRootFS {
		opts = append(opts, oci.WithRootFSReadonly())
	}
	if s.Privileged {
		return append(opts, oci.WithPrivileged, oci.WithAllDevicesAllowed), nil
	}
	return append(opts, seccomp.WithDefaultProfile(), nativeCalls), nil
}

// native are the system calls of the machines that we run on, by Go's name of the architecture.
var native = map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}

// nativeCalls keeps the profile to the machine's own system calls. Those of its 32-bit ancestors
// end the process that makes them: hardly an image has them, they have had more than their share
// of the kernel's faults, and runc compiles the profile once for each, at every start.
func nativeCalls(_ context.Context, _ oci.Client, _ *containers.Container, o *oci.Spec) error {
	if arch, ok := native[goruntime.GOARCH]; ok && o.Linux.Seccomp != nil {
		o.Linux.Seccomp.Architectures = []specs.Arch{arch}
	}
	return nil
}

// ownOOMScore keeps a process from inheriting the score of the daemon, which packages protect.
func ownOOMScore(_ context.Context, _ oci.Client, _ *containers.Container, o *oci.Spec) error {
	o.Process.OOMScoreAdj = new(runtime.OOMScore)
	return nil
}

// terminal gives the process one if the spec says so.
func terminal(s *runtime.Spec) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, o *oci.Spec) error {
		if o.Process.Terminal = s.TTY; s.TTY {
			o.Process.ConsoleSize = &specs.Box{Width: uint(s.Size.Cols), Height: uint(s.Size.Rows)}
		}
		return nil
	}
}

// withUser sets user and groups by the image's own files. A group that is written down is the
// only one.
func withUser(user string) oci.SpecOpts {
	set := oci.Compose(oci.WithUser(user), oci.WithAdditionalGIDs(user))
	return func(ctx context.Context, c oci.Client, ct *containers.Container, s *oci.Spec) error {
		err := set(ctx, c, ct, s)
		switch {
		case err != nil && (errdefs.IsUnavailable(err) || ctx.Err() != nil):
			return classify(err)
		case err != nil:
			return api.Errorf(api.CodeInvalid, "user %q is not to be found in the image's /etc/passwd and /etc/group: %w", user, err)
		case s.Process.User.UID > math.MaxInt32 || s.Process.User.GID > math.MaxInt32:
			return api.Errorf(api.CodeInvalid, "user %q has a number out of range in the image's /etc/passwd or /etc/group", user)
		}
		return nil
	}
}

func refuseRoot(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
	if s.Process.User.UID == 0 {
		return api.Errorf(api.CodeInvalid, "the process would run as root, which runAsNonRoot forbids; set USER in the image or runAsUser in the manifest")
	}
	return nil
}

func capabilitiesOf(s *runtime.Spec) []string {
	name := func(c string) string {
		if c = strings.ToUpper(c); strings.HasPrefix(c, "CAP_") {
			return c
		}
		return "CAP_" + c
	}
	caps := slices.Clone(capabilities)
	for _, c := range s.CapDrop {
		caps = slices.DeleteFunc(caps, func(have string) bool { return have == name(c) || strings.EqualFold(c, "all") })
	}
	for _, c := range s.CapAdd {
		if !slices.Contains(caps, name(c)) {
			caps = append(caps, name(c))
		}
	}
	return caps
}

// limits sets what the container may use.
func limits(l runtime.Limits) oci.SpecOpts {
	pids := int64(l.Pids)
	if pids == 0 {
		pids = pidsDefault
	}
	shm := l.ShmSize
	if shm == 0 {
		shm = memoryDefault
	}
	opts := []oci.SpecOpts{oci.WithPidsLimit(pids), oci.WithDevShmSize(int64(max(1, shm/api.KiB))), files(l.Files)}
	if l.Memory > 0 {
		opts = append(opts, oci.WithMemoryLimit(uint64(l.Memory)))
		if boundsSwap(cgroupRoot) {
			opts = append(opts, oci.WithMemorySwap(int64(l.Memory))) // of memory and swap together
		}
	}
	if l.CPU > 0 {
		opts = append(opts, oci.WithCPUCFS(max(cpuQuotaMin, int64(l.CPU)*cpuPeriod/1000), cpuPeriod))
	}
	if l.CPUShares > 0 {
		opts = append(opts, oci.WithCPUShares(max(2, uint64(l.CPUShares)*1024/1000)))
	}
	return oci.Compose(opts...)
}

// files bounds the open files. Without a bound the daemon's own counts: containerd's default of
// 1024 is too few for a server.
func files(n int) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		s.Process.Rlimits = nil
		if n > 0 {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: uint64(n), Soft: uint64(n)}}
		}
		return nil
	}
}

// network joins the prepared namespace. In it, any user may listen on any port and ping.
func network(n *runtime.Network) oci.SpecOpts {
	if n.Host {
		return oci.WithHostNamespace(specs.NetworkNamespace)
	}
	return func(ctx context.Context, c oci.Client, ct *containers.Container, s *oci.Spec) error {
		s.Linux.Sysctl = map[string]string{
			"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647",
		}
		return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: n.NetNS})(ctx, c, ct, s)
	}
}

// mounts adds the files of the container and the volumes. What lies higher comes first, so that
// a volume on /etc does not hide /etc/hosts.
func (e *Engine) mounts(s *runtime.Spec) oci.SpecOpts {
	// What a program is allowed to use is read here, by Go and the JVM among others.
	list := []specs.Mount{{Type: "cgroup", Source: "cgroup", Destination: "/sys/fs/cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}}}
	bind := func(source, target string, options ...string) {
		list = append(list, specs.Mount{Type: "bind", Source: source, Destination: target, Options: append([]string{"rbind", "rprivate"}, options...)})
	}
	for _, m := range s.Mounts {
		switch {
		case m.Source == "":
			size := m.Size
			if size == 0 {
				size = memoryDefault
			}
			options := []string{"nosuid", "nodev", "mode=1777", fmt.Sprintf("size=%d", int64(size))}
			if m.ReadOnly {
				options = append(options, "ro")
			}
			list = append(list, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: m.Target, Options: options})
		case m.ReadOnly:
			bind(m.Source, m.Target, "ro", "nosuid", "nodev")
		default:
			bind(m.Source, m.Target, "rw", "nosuid", "nodev")
		}
	}
	dir := e.dirOf(s.ID)
	bind(filepath.Join(dir, "hosts"), "/etc/hosts", "rw")
	bind(filepath.Join(dir, "hostname"), "/etc/hostname", "rw")
	if len(s.Network.ResolvConf) > 0 {
		bind(filepath.Join(dir, "resolv.conf"), "/etc/resolv.conf", "rw")
	}
	if s.Init && e.cfg.Init != "" {
		bind(e.cfg.Init, initPath, "ro")
	}
	slices.SortStableFunc(list, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return oci.Compose(oci.WithHostname(hostnameOf(s)), oci.WithMounts(list))
}

func hostnameOf(s *runtime.Spec) string { return cmp.Or(s.Network.Hostname, string(s.ID)) }

// dirOf is the directory of what is mounted into a container.
func (e *Engine) dirOf(id api.ProcessID) string { return filepath.Join(e.cfg.Dir, "files", string(id)) }

// writeFiles writes what mounts mounts.
func (e *Engine) writeFiles(s *runtime.Spec) error {
	dir := e.dirOf(s.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("files of container %s: %w", s.ID, err)
	}
	hosts := s.Network.Hosts
	if len(hosts) == 0 {
		hosts = runtime.DefaultHosts(hostnameOf(s))
	}
	for name, text := range map[string][]byte{"hosts": hosts, "hostname": []byte(hostnameOf(s) + "\n"), "resolv.conf": s.Network.ResolvConf} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("files of container %s: %w", s.ID, err)
		}
	}
	return nil
}
