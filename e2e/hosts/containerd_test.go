package hosts

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// daemon starts a containerd in a host, on the host's disk.
func daemon(t *testing.T, h *Host) (*Cmd, string) {
	t.Helper()
	dir := h.Dir()
	config := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "/run/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[debug]
  level = "warn"
[grpc]
  address = "/run/containerd.sock"
`, dir)
	must(t, os.WriteFile(dir+"/config.toml", []byte(config), 0o644))
	log, err := os.OpenFile(dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer log.Close()
	c := h.Command(t.Context(), "containerd", "--config", dir+"/config.toml")
	c.Stdout, c.Stderr = log, log
	must(t, c.Start())
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(dir + "/log")
			t.Logf("%s: containerd: %s", h.Name(), b[max(0, len(b)-4000):])
		}
	})
	must(t, waitFor(func() error {
		return h.Command(t.Context(), "ctr", "-a", "/run/containerd.sock", "version").Run()
	}))
	return c, dir
}

// A host is machine enough for an engine: its containers are in the host's groups, outlive the
// engine, and end with the power.
func TestContainers(t *testing.T) {
	for _, program := range []string{"containerd", "ctr", "runc", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs " + program)
		}
	}
	r := newRig(t, 2)
	ctr := func(h *Host, args ...string) string {
		t.Helper()
		return output(t, h, append([]string{"ctr", "-a", "/run/containerd.sock"}, args...)...)
	}
	busybox, err := exec.LookPath("busybox")
	must(t, err)
	daemons := map[*Host]*Cmd{}
	for _, h := range r.Hosts() {
		var dir string
		daemons[h], dir = daemon(t, h)
		for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "run", "tmp"} {
			must(t, os.MkdirAll(filepath.Join(dir, "image", d), 0o755))
		}
		output(t, h, "cp", busybox, dir+"/image/bin/")
		must(t, os.WriteFile(dir+"/image/tmp/index.html", []byte("from "+h.Name()), 0o644))
		// The same name in both: each has its own engine, network and groups.
		ctr(h, "run", "--detach", "--rootfs", "--net-host", dir+"/image", "web", "/bin/busybox", "httpd", "-f", "-p", h.Addr().String()+":80", "-h", "/tmp")
	}
	a, b := r.Host(0), r.Host(1)
	serves := func(from, to *Host) error {
		return within(from, func() error {
			c, err := net.DialTimeout("tcp", to.Addr().String()+":80", time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			fmt.Fprint(c, "GET /index.html HTTP/1.0\r\n\r\n")
			b, err := io.ReadAll(c)
			if err == nil && !strings.Contains(string(b), "from "+to.Name()) {
				err = fmt.Errorf("%s answers %q", to.Name(), b)
			}
			return err
		})
	}
	must(t, waitFor(func() error { return serves(a, b) }))
	must(t, waitFor(func() error { return serves(b, a) }))
	for _, h := range r.Hosts() {
		procs, err := filepath.Glob(cgroupRoot + "/*" + h.Cgroup() + "/default/web/cgroup.procs")
		if len(procs) == 0 {
			t.Errorf("%s: the container is in no control group below %s: %v", h.Name(), h.Cgroup(), err)
		}
	}
	isHTTPD := func(p Process) bool { return slices.Contains(p.Args, "httpd") }
	all, err := b.Processes()
	if err != nil || !slices.ContainsFunc(all, isHTTPD) {
		t.Errorf("%s has %+v, %v", b.Name(), all, err)
	}
	must(t, daemons[b].Process.Kill())
	daemons[b].Wait()
	must(t, serves(a, b))
	daemon(t, b)
	if out := ctr(b, "task", "ls", "-q"); out != "web" {
		t.Errorf("after the daemon's restart the tasks are %q", out)
	}

	must(t, b.PowerOff())
	if all, err := b.Processes(); err != nil || len(all) > 0 {
		t.Errorf("what runs without power: %+v, %v", all, err)
	}
	if err := serves(a, b); err == nil {
		t.Error("a container serves without power")
	}
	must(t, serves(a, a))
	if found, _ := filepath.Glob(cgroupRoot + "/*" + b.Cgroup()); len(found) > 0 {
		t.Errorf("control groups without power: %q", found)
	}
	must(t, b.PowerOn())
	daemon(t, b)
	if out := ctr(b, "task", "ls", "-q"); out != "" {
		t.Errorf("after the boot these tasks run: %q", out)
	}
	if out := ctr(b, "container", "ls", "-q"); !strings.Contains(out, "web") {
		t.Errorf("the disk knows the containers %q", out)
	}
	ctr(b, "container", "rm", "web")
	ctr(b, "run", "--detach", "--rootfs", "--net-host", b.Dir()+"/image", "web", "/bin/busybox", "httpd", "-f", "-p", b.Addr().String()+":80", "-h", "/tmp")
	must(t, waitFor(func() error { return serves(a, b) }))
}
