package hosts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"slipway/api"
)

// stateDir holds, in the directory of a rig, what the rig itself keeps.
const stateDir = ".rig"

// state is what a rig is, as its directory keeps it. It is changed under the rig's lock only.
type state struct {
	Dir    string       `json:"dir"` // absolute
	Tag    string       `json:"tag"` // tells rigs on one machine apart
	Subnet netip.Prefix `json:"subnet"`
	Switch pause        `json:"switch"`
	Hosts  []hostState  `json:"hosts"`
	Faults faults       `json:"faults"`
	Bound  bool         `json:"bound,omitempty"`

	leash func(host string, c io.Closer) // for a bound rig; set where hosts may be switched on
}

type hostState struct {
	Name  string     `json:"name"`
	Addr  netip.Addr `json:"addr"`
	Pause pause      `json:"pause"` // zero while the host is off
	// Frozen hosts are on, but nothing in them runs.
	Frozen bool `json:"frozen,omitempty"`
}

func (s *state) path(name string) string { return filepath.Join(s.Dir, stateDir, name) }

// addr is the n-th address of the subnet.
func (s *state) addr(n int) netip.Addr {
	a := s.Subnet.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

// running reports whether anything of the rig runs.
func (s *state) running() bool {
	on := s.Switch.alive()
	for _, h := range s.Hosts {
		on = on || h.Pause.alive()
	}
	return on
}

// load reads the state of a rig. It needs no lock: save replaces the file as a whole.
func load(dir string) (*state, error) {
	path := filepath.Join(dir, stateDir, "state.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	s := new(state)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("hosts: read %s: %w", path, err)
	}
	s.Dir = dir
	return s, nil
}

func (s *state) save() error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("hosts: %w", err)
	}
	next := s.path("state.json.next")
	if err := os.WriteFile(next, b, 0o644); err != nil {
		return fmt.Errorf("hosts: %w", err)
	}
	if err := os.Rename(next, s.path("state.json")); err != nil {
		return fmt.Errorf("hosts: %w", err)
	}
	return nil
}

// lock waits until nobody else changes the rig. The lock lies on the directory itself, which
// stays where the rig's own files do not.
func (r *Rig) lock() (unlock func(), err error) {
	d, err := os.Open(r.dir)
	if err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	for {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("hosts: lock %s: %w", r.dir, err)
	}
	return func() { d.Close() }, nil
}

// locked changes the rig. What f has done is kept also when it fails half-way.
func (r *Rig) locked(f func(*state) error) error {
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	s, err := load(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.CodeNotFound, "hosts: the rig in %s was closed", r.dir)
	}
	if err != nil {
		return err
	}
	s.leash = r.leash
	return errors.Join(f(s), s.save())
}

// writeHostsFile writes what hosts see as /etc/hosts: all of them by name.
func (s *state) writeHostsFile() error {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, h := range s.Hosts {
		fmt.Fprintf(&b, "%s %s\n", h.Addr, h.Name)
	}
	if err := os.WriteFile(s.path("hosts"), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("hosts: %w", err)
	}
	return nil
}
