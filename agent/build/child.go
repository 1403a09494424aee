package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// childConfig is what the engine's process needs. The Builder writes it to the child's standard
// input as JSON, because it holds a password.
type childConfig struct {
	Root     string         `json:"root"`
	Socket   string         `json:"socket"`
	Registry Registry       `json:"registry"`
	Cgroup   string         `json:"cgroup"`
	CacheMax api.Bytes      `json:"cache_max"`
	Deny     []netip.Prefix `json:"deny,omitempty"`
}

// The child's open files beside the standard three.
const (
	hostNetFD = 3 // the machine's network namespace
	readyFD   = 4 // gets one byte when the engine serves
)

// ChildMain runs the engine: the command that Config.Command names calls it with its standard
// input, and does nothing else. It ends when ctx or the input does. It must be the first
// process of new pid, mount and network namespaces, as a Builder starts it: it changes all
// three.
func ChildMain(ctx context.Context, stdin io.Reader) error {
	if os.Getpid() != 1 {
		return api.Errorf(api.CodeInvalid, "builder: this command is started by the agent, not by hand")
	}
	var c childConfig
	if err := json.NewDecoder(stdin).Decode(&c); err != nil {
		return fmt.Errorf("builder: read configuration from standard input: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with the process at the latest
		_, err := io.Copy(io.Discard, stdin)
		cancel(errors.Join(errors.New("standard input was closed"), err))
	}()
	host, err := enterNamespaces(ctx, c)
	if err != nil {
		return fmt.Errorf("builder: %w", err)
	}
	return runChild(ctx, c, host)
}

// runChild serves in the namespaces that are ready.
func runChild(ctx context.Context, c childConfig, host *outside) error {
	egress := egress{deny: c.Deny, local: host.net.addrs}
	hosts, err := childHosts(c, host.net)
	if err != nil {
		return err
	}
	netDir := filepath.Join(c.Root, "netns")
	if err := os.RemoveAll(netDir); err != nil {
		return fmt.Errorf("builder: remove old networks: %w", err)
	}
	steps, err := newStepNet(netDir)
	if err != nil {
		return fmt.Errorf("builder: %w", err)
	}
	// What steps of an earlier engine left beside their mounts, which are gone.
	if err := os.RemoveAll(filepath.Join(c.Root, "runc-overlayfs", "executor")); err != nil {
		return fmt.Errorf("builder: remove old steps: %w", err)
	}
	e, err := newEngine(ctx, c, hosts, steps)
	if err != nil {
		return fmt.Errorf("builder: engine: %w", err)
	}
	l, err := listen(c.Socket)
	if err != nil {
		return errors.Join(fmt.Errorf("builder: %w", err), e.close())
	}

	group, ctx := errgroup.WithContext(ctx)
	relay := &relay{host: host.net, egress: egress, servers: host.nameServers}
	group.Go(func() error { return relay.run(ctx) })
	group.Go(func() error { return e.serve(ctx, l) })
	group.Go(func() error {
		ready := os.NewFile(readyFD, "ready")
		defer ready.Close()
		_, err := ready.Write([]byte{1})
		return err
	})
	return errors.Join(group.Wait(), e.close())
}

func listen(socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	old := unix.Umask(0o177) // from the first moment, nobody else may connect
	defer unix.Umask(old)
	return net.Listen("unix", socket)
}

func childHosts(c childConfig, host hostNet) (docker.RegistryHosts, error) {
	rack, err := c.Registry.client(host.dial)
	if err != nil {
		return nil, err
	}
	upstream := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: answerMax,
	}}
	return registryHosts(rack, upstream), nil
}

// outside is what the child keeps of the world outside its namespaces.
type outside struct {
	net         hostNet
	nameServers []string
}

// runcStates is where runc keeps its states unless told otherwise, and the engine does not.
const runcStates = "/run/runc"

// enterNamespaces makes the new namespaces fit to live in: mounts of ours are not seen outside,
// /proc shows the new processes, runc keeps its states where they vanish with us, and names are
// resolved through the hub.
func enterNamespaces(ctx context.Context, c childConfig) (*outside, error) {
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open own network: %w", err)
	}
	unix.CloseOnExec(hostNetFD)
	unix.CloseOnExec(readyFD)
	m := &outside{net: hostNet{host: &netnsFile{hostNetFD}, own: &netnsFile{own}}, nameServers: nameServers(resolvConf)}

	// Slave, not private: what the machine unmounts must not stay mounted here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, fmt.Errorf("separate mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, fmt.Errorf("mount /proc: %w", err)
	}
	if err := mountResolvConf(c); err != nil {
		return nil, fmt.Errorf("mount %s: %w", resolvConf, err)
	}
	if err := os.MkdirAll(runcStates, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", runcStates, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
		return nil, fmt.Errorf("mount %s: %w", runcStates, err)
	}
	if err := makeHub(ctx); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return m, nil
}

const resolvConf = "/etc/resolv.conf"

func mountResolvConf(c childConfig) error {
	file := filepath.Join(c.Root, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+hubAddr+"\noptions timeout:3 attempts:3\n"), 0o644); err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(resolvConf)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a machine without name servers
	}
	if err != nil {
		return err
	}
	return unix.Mount(file, target, "", unix.MS_BIND, "")
}
