package hosts

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"slipway/api"
)

// Host is one host of a rig.
type Host struct {
	rig    *Rig
	index  int
	name   string
	addr   netip.Addr
	cgroup string
}

// Name is the host's name, which programs in it see as the host name.
func (h *Host) Name() string { return h.name }

// Addr is the host's address, the same after each power-on.
func (h *Host) Addr() netip.Addr { return h.addr }

// Dir is a directory for the host alone: its disk, which outlives its power and the rig.
func (h *Host) Dir() string { return filepath.Join(h.rig.dir, h.name) }

// Cgroup is the host's control group, from the root of each hierarchy of the machine. Programs
// in the host see it as the root.
func (h *Host) Cgroup() string { return h.cgroup }

// On reports whether the host has power.
func (h *Host) On() bool {
	s, err := load(h.rig.dir)
	return err == nil && s.Hosts[h.index].Pause.alive()
}

// PowerOff ends the host as a power failure would: its link goes dead first, so that nobody
// hears of it, then everything in it is killed at once, shims and containers too. Its disk is
// all that is left. A host that is off already is no error.
//
// Commands that this program has started have to be waited for, as always: PowerOff does not.
func (h *Host) PowerOff() error {
	return h.rig.locked(func(s *state) error { return s.powerOff(h.index) })
}

// PowerOn boots the host: with the same name, address and disk, an empty /run, a new boot ID,
// and nothing running. Faults of its link stay as they are. A host that is on is no error.
func (h *Host) PowerOn() error {
	return h.rig.locked(func(s *state) error { return s.powerOn(h.index) })
}

// Freeze stops all that runs in the host in the middle of what it does, as a machine stops whose
// memory is exhausted or whose hypervisor is busy. Only its kernel still answers. Nothing can be
// started in it until Thaw; it may be powered off.
func (h *Host) Freeze() error { return h.freeze(true) }

// Thaw continues what Freeze has stopped.
func (h *Host) Thaw() error { return h.freeze(false) }

func (h *Host) freeze(frozen bool) error {
	return h.rig.locked(func(s *state) error {
		if !s.Hosts[h.index].Pause.alive() {
			return api.Errorf(api.CodeConflict, "hosts: freeze or thaw %s: the host is off; power it on first", h.name)
		}
		all, err := hierarchies()
		if err != nil {
			return err
		}
		f, err := freezerOf(all, frozen)
		if err != nil {
			return err
		}
		s.Hosts[h.index].Frozen = frozen
		return f.do(h.cgroup)
	})
}

// Processes lists what runs in the host and its containers, by pid. What has ended and is not
// waited for is left out, and so is the process that holds the host's namespaces.
func (h *Host) Processes() ([]Process, error) {
	s, err := load(h.rig.dir)
	if err != nil {
		return nil, err
	}
	p := s.Hosts[h.index].Pause
	ns, err := p.namespace("pid")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it is off
	}
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	all, err := members(ns)
	var out []Process
	for _, m := range all {
		if m.PID != p.PID && !m.zombie {
			out = append(out, m)
		}
	}
	return out, err
}

// Cmd is a command that runs in a host. It is an exec.Cmd but for where it is started; its
// process is the program itself. Where Dir is empty it keeps the working directory of the caller.
type Cmd struct {
	*exec.Cmd
	host *Host
}

// Command returns a command to run in the host. The program is looked up, and ctx kills it, as
// exec.CommandContext does it.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	return &Cmd{Cmd: exec.CommandContext(ctx, name, args...), host: h}
}

// Start is exec.Cmd's, in the host. It fails with api.CodeConflict when the host is off or frozen.
func (c *Cmd) Start() error {
	h := c.host
	if c.SysProcAttr != nil && c.SysProcAttr.Pdeathsig != 0 {
		return api.Errorf(api.CodeInvalid, "%s: %s has a Pdeathsig, but the thread that starts it ends at once; kill it by its pid instead", h.name, c.Path)
	}
	s, err := load(h.rig.dir)
	if err != nil {
		return err
	}
	if s.Hosts[h.index].Frozen { // the program would hold this one until it is thawed
		return api.Errorf(api.CodeConflict, "%s: start %s: the host is frozen; thaw it first", h.name, c.Path)
	}
	groups, err := s.programGroups(h.index)
	if err != nil {
		return err
	}
	if c.Dir == "" { // entering a mount namespace leads to its root
		if c.Dir, err = os.Getwd(); err != nil {
			return fmt.Errorf("%s: start %s: %w", h.name, c.Path, err)
		}
	}
	p := s.Hosts[h.index].Pause
	if p.PID == 0 {
		err = fs.ErrNotExist
	} else {
		err = startIn(c.Cmd, groups, p, hostNamespaces|cgroupNamespace)
	}
	if err != nil && !p.alive() {
		return api.Errorf(api.CodeConflict, "%s: start %s: the host is off; power it on first", h.name, c.Path)
	}
	return err
}

// Run is exec.Cmd's, in the host.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output is exec.Cmd's, in the host; of standard error the ExitError has all.
func (c *Cmd) Output() ([]byte, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout = &stdout
	if c.Stderr == nil {
		c.Stderr = &stderr
	}
	err := c.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		exit.Stderr = stderr.Bytes()
	}
	return stdout.Bytes(), err
}

// CombinedOutput is exec.Cmd's, in the host.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// uuid is a random one, as the kernel makes boot IDs.
func uuid() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
