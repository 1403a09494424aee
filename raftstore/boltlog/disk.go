package boltlog

import (
	"io"
	"os"
	"sync"
	"time"
)

// Disk is what a Log writes through; a test puts one in its place that fails or hangs.
type Disk interface {
	// Open opens or creates a file of the journal.
	Open(path string) (File, error)
	// Reserve holds the blocks of a file up to a size, also beyond its end.
	Reserve(path string, size int64) error
	// Commit runs a transaction of bbolt, which writes and syncs the file with the tree.
	Commit(transaction func() error) error
}

// File is a file of the journal.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync returns when what was written is on the disk.
	Sync() error
	// Size is the length of the file in bytes.
	Size() (int64, error)
}

// OSDisk is the disk of the machine.
type OSDisk struct{}

// Open opens or creates a file of mode 0600.
func (OSDisk) Open(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Reserve asks the file system; some cannot, which is no error.
func (OSDisk) Reserve(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return reserveBlocks(f, size)
}

// Commit runs the transaction.
func (OSDisk) Commit(transaction func() error) error { return transaction() }

type osFile struct{ *os.File }

// Sync leaves out what a reader does not need, such as times.
func (f osFile) Sync() error { return syncData(f.File) }

// Size returns the length of the file.
func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// running knows since when operations on the disk run. Its zero value is ready.
type running struct {
	mu    sync.Mutex
	next  uint64
	since map[uint64]time.Time
}

// begin notes an operation; the returned function ends it.
func (r *running) begin() (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since == nil {
		r.since = map[uint64]time.Time{}
	}
	id := r.next
	r.next++
	r.since[id] = time.Now()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.since, id)
	}
}

// oldest returns when the oldest operation began, the zero time if none runs.
func (r *running) oldest() (t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.since {
		if t.IsZero() || s.Before(t) {
			t = s
		}
	}
	return t
}
