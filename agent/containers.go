package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"syscall"
	"time"

	"slipway/agent/fingerprint"
	"slipway/api"
	"slipway/runtime"
)

// stopSlack is how long a detached context may take to give back what a process held.
const stopSlack = 30 * time.Second

// networks gives processes their network.
type networks interface {
	// Add makes, or finds, the network of a process.
	Add(ctx context.Context, a *api.Assignment) (runtime.Network, string, error)
	// Remove gives it back; unknown is not an error.
	Remove(ctx context.Context, id api.ProcessID) error
}

// logDirs says where the output of a process is kept.
type logDirs interface {
	Dir(id api.ProcessID, app api.AppName, service api.ServiceName) (string, error)
	// Ended gives back what is held open for a process.
	Ended(id api.ProcessID)
}

// containers is the engine of supervisors: a container runtime, networks and volumes.
type containers struct {
	runtime  runtime.Runtime
	networks networks
	logs     logDirs
	volumes  string // the directory of rack-managed volumes
	grants   *grants
	// privileged allows what escapes confinement: the pool's operator decided so.
	privileged bool
	now        func() time.Time
}

var _ engine = (*containers)(nil)

// Pull makes the image present.
func (c *containers) Pull(ctx context.Context, a *api.Assignment) error {
	if a.Image.Digest == "" {
		return api.Errorf(api.CodeInvalid, "service %s has no image in release %s", a.Service, a.Release)
	}
	if _, err := c.runtime.Pull(ctx, a.Image.Ref(), nil); err != nil {
		return fmt.Errorf("pull image of %s: %w", a.Service, err)
	}
	return nil
}

// Create takes what is granted and makes network, volumes and container. On an error it leaves
// nothing behind.
func (c *containers) Create(ctx context.Context, a *api.Assignment) (addr string, err error) {
	if err := c.grants.claim(a.Process, a.Grant); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			c.grants.release(a.Process)
		}
	}()
	network, addr, err := c.networks.Add(ctx, a)
	if err != nil {
		return "", fmt.Errorf("network of process %s: %w", a.Process, err)
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopSlack)
			defer cancel()
			if again := c.networks.Remove(ctx, a.Process); again != nil {
				err = fmt.Errorf("%w (and its network stays: %w)", err, again)
			}
		}
	}()
	spec, err := c.spec(a)
	if err != nil {
		return "", err
	}
	spec.Network = network
	err = c.runtime.Create(ctx, spec)
	if api.CodeOf(err) == api.CodeConflict {
		// A container of this process from before a crash, which nobody started.
		if err = c.runtime.Remove(ctx, a.Process); err == nil {
			err = c.runtime.Create(ctx, spec)
		}
	}
	if err != nil {
		return "", fmt.Errorf("create container of process %s: %w", a.Process, err)
	}
	return addr, nil
}

// spec turns an assignment into a container.
func (c *containers) spec(a *api.Assignment) (runtime.Spec, error) {
	log, err := c.logs.Dir(a.Process, a.App, a.Service)
	if err != nil {
		return runtime.Spec{}, err
	}
	s := runtime.Spec{
		ID: a.Process, Image: a.Image.Ref(), Command: a.Command,
		Env: environ(a.Env), Init: a.Spec.Init, ReadOnlyRootFS: a.Spec.Security.ReadOnlyRootFS,
		NonRoot: a.Spec.Security.RunAsNonRoot, CapDrop: a.Spec.Security.CapabilitiesDrop,
		Labels: map[string]string{"slipway.app": string(a.App), "slipway.service": string(a.Service), "slipway.release": string(a.Release)},
		Log:    runtime.Log{Dir: log},
		Limits: runtime.Limits{CPU: a.Spec.Scale.CPULimit, CPUShares: a.Ask.CPU, Memory: memoryLimit(a)},
	}
	if a.Spec.Privileged || len(a.Spec.Security.CapabilitiesAdd) > 0 {
		if !c.privileged {
			return s, api.Errorf(api.CodeDenied, "service %s asks for privileges that this node does not give; start the agent with --allow-privileged or remove privileged and capabilities.add from the manifest", a.Service)
		}
		s.Privileged, s.CapAdd = a.Spec.Privileged, a.Spec.Security.CapabilitiesAdd
	}
	if u := a.Spec.Security.RunAsUser; u != nil {
		s.User = fmt.Sprint(*u)
	}
	if g := a.Spec.Security.RunAsGroup; g != nil {
		s.Group = fmt.Sprint(*g)
	}
	s.Devices = devices(a.Grant)
	if a.Run != nil {
		s.TTY, s.Attach = a.Run.TTY, a.Run.Attached
		s.Size = runtime.Size{Rows: uint16(a.Run.Rows), Cols: uint16(a.Run.Cols)}
		return s, nil // one-offs get no volumes
	}
	for _, v := range a.Spec.Volumes {
		m, err := c.mount(a, v)
		if err != nil {
			return s, err
		}
		s.Mounts = append(s.Mounts, m)
	}
	return s, nil
}

// devices are the device nodes that a grant stands for.
func devices(grant *api.Grant) []string {
	if grant == nil {
		return nil
	}
	var out []string
	for _, d := range grant.Devices {
		for _, node := range fingerprint.DeviceNodes("/", d) {
			if !slices.Contains(out, node) { // several GPUs share what controls them
				out = append(out, node)
			}
		}
	}
	return out
}

// environ writes an environment as NAME=value, sorted.
func environ(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	sort.Strings(out)
	return out
}

// hostPaths are the only ones of the host that a volume may name; all are mounted read-only.
var hostPaths = []string{"/proc", "/sys/fs/cgroup"}

// mount makes the directory of a volume.
func (c *containers) mount(a *api.Assignment, v api.Volume) (runtime.Mount, error) {
	switch {
	case v.Memory:
		return runtime.Mount{Target: v.Path, Size: v.Size}, nil
	case v.Host != "":
		if !slices.Contains(hostPaths, filepath.Clean(v.Host)) {
			return runtime.Mount{}, api.Errorf(api.CodeDenied, "service %s: host path %q may not be mounted", a.Service, v.Host)
		}
		return runtime.Mount{Source: filepath.Clean(v.Host), Target: v.Path, ReadOnly: true}, nil
	}
	dir := filepath.Join(c.volumeDir(a), filepath.Base(filepath.Clean("/"+v.Name)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return runtime.Mount{}, api.Errorf(api.CodeInternal, "volume %q of service %s: %w", v.Name, a.Service, err)
	}
	return runtime.Mount{Source: dir, Target: v.Path, ReadOnly: v.ReadOnly}, nil
}

// Start starts the main process.
func (c *containers) Start(ctx context.Context, id api.ProcessID) error {
	if _, err := c.runtime.Start(ctx, id); err != nil {
		return fmt.Errorf("start process %s: %w", id, err)
	}
	return nil
}

// Signal reaches the main process; one that has ended is not an error.
func (c *containers) Signal(ctx context.Context, id api.ProcessID, sig syscall.Signal) error {
	if err := c.runtime.Signal(ctx, id, sig); err != nil && api.CodeOf(err) != api.CodeNotFound {
		return fmt.Errorf("signal process %s: %w", id, err)
	}
	return nil
}

// Remove gives back container and network. The log stays, and so do the volumes, unless the
// app is deleted.
func (c *containers) Remove(ctx context.Context, a *api.Assignment) error {
	id := a.Process
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopSlack)
	defer cancel()
	if err := c.runtime.Remove(ctx, id); err != nil {
		return fmt.Errorf("remove container of process %s: %w", id, err)
	}
	if err := c.networks.Remove(ctx, id); err != nil {
		return fmt.Errorf("remove network of process %s: %w", id, err)
	}
	c.grants.release(id)
	if !a.Purge {
		return nil
	}
	if err := os.RemoveAll(c.volumeDir(a)); err != nil {
		return fmt.Errorf("remove volumes of app %s: %w", a.App, err)
	}
	_ = os.Remove(filepath.Join(c.volumes, string(a.App))) // stays while another service has some
	return nil
}

// volumeDir holds the volumes of a service.
func (c *containers) volumeDir(a *api.Assignment) string {
	return filepath.Join(c.volumes, string(a.App), string(a.Service))
}
