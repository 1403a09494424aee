package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// diskSize is that of a machine's file system, which takes what is written to it only.
const diskSize = 2 << 30

// blockSize is the least that a file takes of it.
const blockSize = 4 << 10

// disk is a file system of its own that can stand still: whoever writes to it then waits, as for a
// disk that does not answer.
type disk struct {
	path  string
	image string // "" where no file system could be made: the disk never stands still then
}

// newDisk makes a file system in a file.
func newDisk(path string) (*disk, error) {
	d := &disk{path: path, image: path + ".img"}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(diskSize); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	err = run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", d.image)
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		d.image = ""
	}
	return d, err
}

// shared makes a directory a place where what is mounted and unmounted is so for all hosts.
func shared(path string) (end func() error, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	if err := run("mount", "--bind", path, path); err != nil {
		return nil, err
	}
	return func() error { return run("umount", path) }, run("mount", "--make-shared", path)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// mount mounts the file system, through a block device that nobody had before: where a mount namespace
// of somebody else still holds the one that was shut down, mount would come back to that, which answers
// nothing any more.
func (d *disk) mount() error {
	out, err := exec.Command("losetup", "--find", "--show", d.image).Output()
	if err != nil {
		return fmt.Errorf("losetup %s: %w", d.image, err)
	}
	device := strings.TrimSpace(string(out))
	// Let go of here, it goes with the mount.
	return errors.Join(run("mount", device, d.path), run("losetup", "--detach", device))
}

// close takes the file system away again.
func (d *disk) close() error {
	if d.image == "" {
		return nil
	}
	return run("umount", d.path)
}

// lose takes away what was written and not synced, as a loss of power does. Nobody may have a file
// open there.
func (d *disk) lose() error {
	if d.image == "" {
		return nil
	}
	const shutdown, noFlush = 0x8004587d, 2 // FS_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	err = unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noFlush)
	dir.Close()
	if err != nil {
		return fmt.Errorf("shut %s down: %w", d.path, err)
	}
	if err := d.close(); err != nil {
		return err
	}
	return d.mount()
}

// fill leaves no room on the disk until end.
func (d *disk) fill() (end func() error, err error) {
	path := filepath.Join(d.path, "full")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for size, at := int64(diskSize), int64(0); size >= blockSize; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, at, size); {
		case err == nil:
			at += size
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case !errors.Is(err, syscall.EINTR):
			return nil, fmt.Errorf("fill %s: %w", filepath.Base(d.path), err)
		}
	}
	return func() error { return os.Remove(path) }, nil
}

// stall has the disk stand still again and again, each time for up to a while, for as long as hold.
// end returns when it goes again. A program of its own does it, so that the disk goes on whatever
// becomes of this one.
func (d *disk) stall(r *rand.Rand, hold, each time.Duration) (end func() error, err error) {
	const script = `while read t; do fsfreeze -f "$1" || exit 1; sleep "$t"; fsfreeze -u "$1" || exit 1; sleep 0.01; done`
	var times strings.Builder
	for sum := time.Duration(0); sum < hold; {
		t := min(between(r, each/4, each), hold-sum)
		fmt.Fprintf(&times, "%.3f\n", t.Seconds())
		sum += max(t, time.Millisecond)
	}
	var out strings.Builder
	cmd := exec.Command("sh", "-c", script, "stall", d.path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(times.String()), &out, &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error {
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("stall %s: %w: %s", filepath.Base(d.path), err, out.String())
		}
		return nil
	}, nil
}

// TestDisksDoWhatTheySay: one without power keeps what was synced and nothing else, a full one takes
// nothing, and one that stands still keeps whoever writes waiting.
func TestDisksDoWhatTheySay(t *testing.T) {
	d, err := newDisk(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Skip(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	put := func(name string, sync bool) error {
		f, err := os.Create(filepath.Join(d.path, name))
		if err != nil {
			return err
		}
		if _, err = f.Write(make([]byte, 2*blockSize)); err == nil && sync {
			err = f.Sync()
		}
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(put("synced", true), put("not", false), d.lose()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(d.path, "synced")); err != nil || len(b) != 2*blockSize {
		t.Errorf("of what was synced, %d bytes are left: %v", len(b), err)
	}
	if b, err := os.ReadFile(filepath.Join(d.path, "not")); err == nil && len(b) > 0 {
		t.Errorf("of what was not synced, %d bytes are left", len(b))
	}
	end, err := d.fill()
	if err != nil {
		t.Fatal(err)
	}
	if err := put("more", true); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write to a full disk: %v", err)
	}
	if err := errors.Join(end(), put("more", true)); err != nil {
		t.Errorf("a write after it was full: %v", err)
	}
	const hold = 300 * time.Millisecond
	end, err = d.stall(rand.New(rand.NewPCG(1, 1)), hold, hold)
	if err != nil {
		t.Fatal(err)
	}
	var longest time.Duration
	for i, began := 0, time.Now(); time.Since(began) < hold; i++ {
		at := time.Now()
		if err := put(fmt.Sprint("n", i), true); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(at))
	}
	if err := end(); err != nil || longest < hold/5 {
		t.Errorf("nobody waited for more than %s: %v", longest, err)
	}
}
