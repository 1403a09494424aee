package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is a process of a host or of one of its containers.
type Process struct {
	PID  int      // as this program sees it
	Args []string // empty for one that is ending

	parent int
	zombie bool
}

// members lists the processes of a pid namespace and of those below it.
func members(ns *os.File) ([]Process, error) {
	wanted, err := inode(int(ns.Fd()))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("hosts: list processes: %w", err)
	}
	known := map[string]bool{} // by the text of the link: is it wanted, or below that?
	var out []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		path := "/proc/" + e.Name() + "/ns/pid"
		link, err := os.Readlink(path)
		if err != nil {
			continue // it has ended
		}
		in, ok := known[link]
		if !ok {
			if in, err = below(path, wanted); errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return nil, err
			}
			known[link] = in
		}
		condition, parent, _, err := stat(pid)
		if !in || err != nil {
			continue
		}
		p := Process{PID: pid, parent: parent, zombie: condition == 'Z' || condition == 'X'}
		if cmdline, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && len(cmdline) > 0 {
			p.Args = strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
		}
		out = append(out, p)
	}
	return out, nil
}

// below reports whether the pid namespace at path is the wanted one or has it as an ancestor
// (ioctl_nsfs(2)).
func below(path string, wanted uint64) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	fd := int(f.Fd())
	defer func() { f.Close() }()
	for {
		n, err := inode(fd)
		if err != nil || n == wanted {
			return n == wanted, err
		}
		parent, err := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		if errors.Is(err, unix.EPERM) {
			return false, nil // it is our own, or above
		}
		if err != nil {
			return false, fmt.Errorf("hosts: parent of %s: %w", path, err)
		}
		f.Close()
		f, fd = os.NewFile(uintptr(parent), path), parent
	}
}

func inode(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("hosts: namespace: %w", err)
	}
	return st.Ino, nil
}
