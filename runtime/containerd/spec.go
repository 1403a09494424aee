package containerd

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"slipway/api"
	"slipway/runtime"
)

// Defaults of limits, where the spec leaves them open.
const (
	pidsDefault = 4096
	cpuPeriod   = 100000 // µs
	uidMax      = 1<<31 - 1
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
func (e *Engine) options(s *runtime.Spec, img client.Image, info runtime.ImageInfo) ([]oci.SpecOpts, error) {
	args, err := arguments(s, info)
	if err != nil {
		return nil, err
	}
	workdir := s.WorkDir
	if workdir == "" {
		workdir = info.WorkDir
	}
	if workdir == "" {
		workdir = "/"
	}
	if err := checkWorkDir(workdir); err != nil {
		return nil, err
	}
	if s.Init && e.cfg.Init != "" {
		args = append([]string{initPath, "--"}, args...)
	}
	user := s.User
	if user == "" {
		user = info.User
	}
	if err := checkUser(user); err != nil {
		return nil, err
	}
	opts := []oci.SpecOpts{
		oci.WithoutRunMount, oci.WithEnv(info.Env), oci.WithEnv(s.Env), oci.WithProcessArgs(args...), oci.WithProcessCwd(workdir),
		oci.WithCgroup("/" + e.cfg.Cgroup + "/" + string(s.ID)),
		oci.WithCapabilities(capabilitiesOf(s)), limits(s.Limits), network(&s.Network), e.mounts(s),
	}
	if user != "" {
		opts = append(opts, oci.WithUser(user), oci.WithAdditionalGIDs(user))
	}
	if s.NonRoot {
		opts = append(opts, refuseRoot)
	}
	if s.ReadOnlyRootFS {
		opts = append(opts, oci.WithRootFSReadonly())
	}
	if s.TTY {
		opts = append(opts, oci.WithTTY, oci.WithTTYSize(int(s.Size.Cols), int(s.Size.Rows)))
	}
	if s.Privileged {
		return append(opts, oci.WithPrivileged, oci.WithAllDevicesAllowed), nil
	}
	return append(opts, seccomp.WithDefaultProfile()), nil
}

// arguments is what runs: entrypoint + command, by the rules of runtime.Spec.
func arguments(s *runtime.Spec, info runtime.ImageInfo) ([]string, error) {
	entrypoint, command := info.Entrypoint, info.Cmd
	if s.Entrypoint != nil {
		entrypoint, command = s.Entrypoint, nil
	}
	if len(s.Command) > 0 {
		command = s.Command
	}
	args := slices.Concat(entrypoint, command)
	if len(args) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "image %s says no command and none is given; set command in the manifest", s.Image)
	}
	return args, nil
}

// checkWorkDir refuses what could leave the root file system (CVE-2024-21626).
func checkWorkDir(dir string) error {
	if !path.IsAbs(dir) || strings.HasPrefix(path.Clean(dir), "/proc") {
		return api.Errorf(api.CodeInvalid, "working directory %q is not an absolute path outside of /proc", dir)
	}
	return nil
}

// checkUser refuses numbers that the kernel would take for another user (CVE-2024-40635).
func checkUser(user string) error {
	for _, part := range strings.SplitN(user, ":", 2) {
		if n, err := strconv.ParseUint(part, 10, 64); err == nil && n > uidMax {
			return api.Errorf(api.CodeInvalid, "user %q is out of range, the highest number is %d", user, uidMax)
		}
		if strings.TrimSpace(part) != part {
			return api.Errorf(api.CodeInvalid, "user %q contains blanks", user)
		}
	}
	return nil
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
	opts := []oci.SpecOpts{oci.WithPidsLimit(pids)}
	if l.Memory > 0 {
		opts = append(opts, oci.WithMemoryLimit(uint64(l.Memory)))
	}
	if l.CPU > 0 {
		opts = append(opts, oci.WithCPUCFS(int64(l.CPU)*cpuPeriod/1000, cpuPeriod))
	}
	if l.CPUShares > 0 {
		opts = append(opts, oci.WithCPUShares(max(2, uint64(l.CPUShares)*1024/1000)))
	}
	if l.Files > 0 {
		opts = append(opts, oci.WithRlimit(&specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Hard: uint64(l.Files), Soft: uint64(l.Files)}))
	}
	return oci.Compose(opts...)
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

// mounts writes the files of the container and mounts them beside the volumes.
func (e *Engine) mounts(s *runtime.Spec) oci.SpecOpts {
	hostname := s.Network.Hostname
	if hostname == "" {
		hostname = string(s.ID)
	}
	var list []specs.Mount
	bind := func(source, target string, options ...string) {
		list = append(list, specs.Mount{Type: "bind", Source: source, Destination: target, Options: append([]string{"rbind", "rprivate"}, options...)})
	}
	dir := e.files(s.ID)
	bind(filepath.Join(dir, "hosts"), "/etc/hosts", "rw")
	bind(filepath.Join(dir, "hostname"), "/etc/hostname", "rw")
	if len(s.Network.ResolvConf) > 0 {
		bind(filepath.Join(dir, "resolv.conf"), "/etc/resolv.conf", "rw")
	}
	if s.Init && e.cfg.Init != "" {
		bind(e.cfg.Init, initPath, "ro")
	}
	for _, m := range s.Mounts {
		switch {
		case m.Source == "":
			size := m.Size
			if size == 0 {
				size = 64 * api.MiB
			}
			list = append(list, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: m.Target,
				Options: []string{"nosuid", "nodev", "mode=1777", fmt.Sprintf("size=%d", int64(size))}})
		case m.ReadOnly:
			bind(m.Source, m.Target, "ro", "nosuid", "nodev")
		default:
			bind(m.Source, m.Target, "rw", "nosuid", "nodev")
		}
	}
	return oci.Compose(oci.WithHostname(hostname), oci.WithMounts(list))
}

// files is the directory of what is mounted into a container.
func (e *Engine) files(id api.ProcessID) string { return filepath.Join(e.cfg.Dir, string(id)) }

// writeFiles writes what mounts mounts.
func (e *Engine) writeFiles(s *runtime.Spec) error {
	dir := e.files(s.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("files of container %s: %w", s.ID, err)
	}
	hostname := s.Network.Hostname
	if hostname == "" {
		hostname = string(s.ID)
	}
	hosts := s.Network.Hosts
	if len(hosts) == 0 {
		hosts = fmt.Appendf(nil, "127.0.0.1\tlocalhost %s\n::1\tlocalhost\n", hostname)
	}
	for name, text := range map[string][]byte{"hosts": hosts, "hostname": []byte(hostname + "\n"), "resolv.conf": s.Network.ResolvConf} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("files of container %s: %w", s.ID, err)
		}
	}
	return nil
}
