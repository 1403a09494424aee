package boltlog

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"
)

var errCrash = errors.New("the machine is off")

// crashDisk keeps the files of the journal in memory: what was synced, and what was written and
// may be on the disk, sector by sector, after a crash.
type crashDisk struct {
	mu    sync.Mutex
	files map[string]*crashFile
	// before is asked ahead of every operation ("write", "sync", "commit"); its error is that of
	// the operation.
	before func(op string) error
	// after is asked behind a commit.
	after func() error
}

func newCrashDisk() *crashDisk {
	return &crashDisk{files: map[string]*crashFile{}, before: func(string) error { return nil }, after: func() error { return nil }}
}

func (d *crashDisk) Open(path string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.files[path]
	if !ok {
		f = &crashFile{disk: d}
		d.files[path] = f
	}
	return f, nil
}

func (d *crashDisk) Reserve(string, int64) error { return d.before("reserve") }

func (d *crashDisk) Commit(transaction func() error) error {
	if err := d.before("commit"); err != nil {
		return err
	}
	if err := transaction(); err != nil {
		return err
	}
	return d.after()
}

// crash leaves of each file what was synced and, of what was not, the sectors that keep says.
func (d *crashDisk) crash(keep func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		f.synced = grown(f.synced, len(f.data))
		for at := f.dirty[0] / sector * sector; at < f.dirty[1]; at += sector {
			end := min(at+sector, len(f.data))
			if string(f.synced[at:end]) != string(f.data[at:end]) && keep() {
				copy(f.synced[at:end], f.data[at:end])
			}
		}
		f.data = append(f.data[:0], f.synced...)
		f.dirty = [2]int{}
	}
}

func grown(b []byte, n int) []byte {
	if n > len(b) {
		b = append(b, make([]byte, n-len(b))...)
	}
	return b
}

type crashFile struct {
	disk         *crashDisk
	data, synced []byte
	dirty        [2]int // from and to what was written since the last sync
}

func (f *crashFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.disk.before("write")
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n := len(p)
	switch {
	case errors.Is(err, syscall.ENOSPC):
		n /= 2 // a short write
	case errors.Is(err, errCrash): // it may have begun
	case err != nil:
		return 0, err
	}
	f.data = grown(f.data, int(off)+n)
	copy(f.data[off:], p[:n])
	if from, to := int(off), int(off)+n; f.dirty[1] == 0 {
		f.dirty = [2]int{from, to}
	} else {
		f.dirty = [2]int{min(f.dirty[0], from), max(f.dirty[1], to)}
	}
	if err != nil {
		return n, err
	}
	return n, nil
}

func (f *crashFile) Sync() error {
	if err := f.disk.before("sync"); err != nil {
		return err
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.synced = grown(f.synced, len(f.data))
	copy(f.synced[f.dirty[0]:f.dirty[1]], f.data[f.dirty[0]:f.dirty[1]])
	f.dirty = [2]int{}
	return nil
}

func (f *crashFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *crashFile) Close() error { return nil }

// abandon lets go of the tree as a process that dies does.
func (l *Log) abandon() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.wait()
	l.db.Close()
}

var (
	_ File          = (*crashFile)(nil)
	_ Disk          = (*crashDisk)(nil)
	_ raft.LogStore = (*Log)(nil)
)
