package boltlog

import (
	"os"
	"sync"
	"time"
)

const (
	// reserveSize is how much of the disk the log holds beyond what it has written. What runs
	// on the machine can fill the disk, but not take this: there is room to stop it, and to
	// delete what it wrote.
	// The entries of the journal must find room in it as well: both of its files, in a tree that is
	// half empty at worst.
	reserveSize = 16 << 20
	// reserveEvery bounds how often a reserve that the disk refused is asked for again.
	reserveEvery = time.Second
)

// reserve keeps blocks of the disk for a file that grows.
type reserve struct {
	disk Disk
	path string
	want int64 // bytes beyond the end of the file

	mu      sync.Mutex
	size    int64 // of the file when the blocks were asked for
	refused time.Time
}

// Low reports whether the log lives on its reserve, because the disk is full.
func (l *Log) Low() bool {
	return l.reserve.low(time.Now())
}

func (r *reserve) low(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.refused.IsZero() {
		r.renewLocked(now)
	}
	return !r.refused.IsZero()
}

// renew asks for a reserve beyond the present size of the file. That a disk has none to give is
// no error, it is what Low reports: the entries themselves are stored.
func (r *reserve) renew(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewLocked(now)
}

func (r *reserve) renewLocked(now time.Time) {
	info, err := os.Stat(r.path)
	if err != nil || r.refused.IsZero() && info.Size() == r.size || !r.refused.IsZero() && now.Sub(r.refused) < reserveEvery {
		return
	}
	r.refused = now
	if r.disk.Reserve(r.path, info.Size()+r.want) == nil {
		r.size, r.refused = info.Size(), time.Time{}
	}
}

// refuse notes that the disk had no room for a write: what is reserved is used up.
func (r *reserve) refuse(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = now
}
