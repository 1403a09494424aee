package boltlog

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// The layout of the tree: logs, index (8 bytes, big-endian) → entry; stable, key → value;
// journal, "salt", "applied" and "generation" → number (8 bytes).
//
// An entry is: term (8 bytes) type (1) appended at, ns since 1970 (8) length of data (4) data
// extensions.
var (
	bucketLogs    = []byte("logs")
	bucketStable  = []byte("stable")
	bucketJournal = []byte("journal")

	keySalt       = []byte("salt")
	keyApplied    = []byte("applied")    // number of the last frame of the journal that the tree has
	keyGeneration = []byte("generation") // of the values that the tree has
)

const entryHead = 8 + 1 + 8 + 4

// errKeyNotFound has the text that hashicorp/raft compares with.
var errKeyNotFound = errors.New("not found")

// Log is a raft.LogStore and a raft.StableStore. It is safe for concurrent use.
type Log struct {
	db      *bbolt.DB
	disk    Disk
	running running
	values  values

	writing sync.Mutex // held by who changes the log; taken before mu

	cut     uint64 // first entry that the next append replaces; 0 for none
	anchor  uint64 // entry that stands in for a snapshot and stays through the next cut; 0 for none
	journal journal
	carried chan struct{} // closed when the transaction behind the appends has ended; nil if none was begun

	mu          sync.RWMutex
	first, last uint64          // 0 when empty
	recent      map[uint64]held // entries that the tree has not yet
	carriedTo   uint64          // number of the last frame that the tree has
	failed      error           // after which the disk is not trusted

	reserve reserve
}

// held is an entry in memory and the frame that it is in.
type held struct {
	raft.Log
	frame uint64
}

var (
	_ raft.LogStore    = (*Log)(nil)
	_ raft.StableStore = (*Log)(nil)
)

// Open opens or creates the files. A log that another process holds is an error after a second.
func Open(path string) (*Log, error) { return OpenOn(path, OSDisk{}) }

// OpenOn is Open on another disk than that of the machine.
func OpenOn(path string, disk Disk) (*Log, error) { return openOn(path, disk, reserveSize) }

func openOn(path string, disk Disk, reserved int64) (*Log, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	})
	if err != nil {
		return nil, fmt.Errorf("open raft log %s: %w", path, err)
	}
	l := &Log{db: db, disk: disk, recent: map[uint64]held{}, reserve: reserve{disk: disk, path: path, want: reserved}}
	if err := l.open(path); err != nil {
		l.closeFiles()
		return nil, fmt.Errorf("open raft log %s: %w", path, err)
	}
	l.reserve.renew(time.Now())
	return l, nil
}

// open makes the buckets and brings what is in the journal only into the tree.
func (l *Log) open(path string) error {
	err := l.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketLogs, bucketStable, bucketJournal} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		b := tx.Bucket(bucketJournal)
		if b.Get(keySalt) == nil {
			salt := make([]byte, 8)
			rand.Read(salt)
			if err := b.Put(keySalt, salt); err != nil {
				return err
			}
		}
		l.journal.salt, l.carriedTo = number(b.Get(keySalt)), number(b.Get(keyApplied))
		l.journal.number = l.carriedTo
		l.values.salt, l.values.generation, l.values.all = l.journal.salt, number(b.Get(keyGeneration)), map[string][]byte{}
		return tx.Bucket(bucketStable).ForEach(func(k, v []byte) error {
			l.values.all[string(k)] = bytes.Clone(v)
			return nil
		})
	})
	if err != nil {
		return err
	}
	file, err := l.disk.Open(path + valuesFile)
	if err != nil {
		return err
	}
	if err := l.values.open(file); err != nil {
		return err
	}
	for i := range l.journal.seg {
		s := &l.journal.seg[i]
		if s.file, err = l.disk.Open(fmt.Sprintf("%s.%d", path, i)); err != nil {
			return err
		}
		if s.size, err = s.file.Size(); err != nil {
			return err
		}
		s.size -= s.size % sector
	}
	frames, err := l.journal.read(l.journal.number)
	if err != nil {
		return err
	}
	for _, f := range frames {
		l.hold(f.number, f.entries)
		l.journal.number = f.number
	}
	if len(frames) > 0 {
		return l.carry(nil)
	}
	return l.bounds()
}

// Close brings the journal into the tree and closes the files.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	var err error
	l.wait()
	if l.Failed() == nil {
		err = l.carry(nil)
	}
	if again := l.closeFiles(); err == nil {
		err = again
	}
	return err
}

func (l *Log) closeFiles() error {
	err := l.db.Close()
	for _, f := range []File{l.values.file, l.journal.seg[0].file, l.journal.seg[1].file} {
		if f == nil {
			continue
		}
		if again := f.Close(); err == nil {
			err = again
		}
	}
	return err
}

// Failed returns the error after which the log takes no more, nil while it is well. After a sync
// that failed it is not known what the disk has, and asking again would not tell: only a new
// start, which reads it, can go on.
func (l *Log) Failed() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.failed
}

// BusySince returns when the oldest operation that the disk has not ended yet began, the zero
// time if there is none.
func (l *Log) BusySince() time.Time { return l.running.oldest() }

// FirstIndex returns the index of the oldest entry, 0 for an empty log.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.first, nil
}

// LastIndex returns the index of the newest entry, 0 for an empty log.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.last, nil
}

// GetLog reads one entry; raft.ErrLogNotFound if it is not there.
func (l *Log) GetLog(index uint64, out *raft.Log) error {
	l.mu.RLock()
	h, ok := l.recent[index]
	l.mu.RUnlock()
	if ok {
		*out = h.Log
		return nil
	}
	return l.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketLogs).Get(key(index))
		if v == nil {
			return raft.ErrLogNotFound
		}
		return decode(index, v, out)
	})
}

// StoreLog appends one entry.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs appends entries as one: all are durable or none is.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	defer l.running.begin()()
	err := l.Failed()
	if err == nil {
		err = l.append(entries)
	}
	if err != nil {
		return fmt.Errorf("append raft log %d to %d: %w", entries[0].Index, entries[len(entries)-1].Index, err)
	}
	return nil
}

// append writes to the journal, or, if that has no room, to the tree.
func (l *Log) append(entries []*raft.Log) error {
	copied := make([]raft.Log, len(entries))
	for i, e := range entries {
		copied[i] = *e
	}
	cut := l.cut
	if l.cut = 0; cut == copied[0].Index {
		l.wait()
		return l.carry(func(b *bbolt.Bucket) error {
			if err := deleteRange(b, cut, math.MaxUint64); err != nil {
				return err
			}
			return putAll(b, copied)
		})
	}
	frame := l.journal.encode(entries)
	if l.journal.mustTurn(frame) {
		l.wait()
		if l.carriedOther() {
			l.begin()
			l.journal.turn()
		}
	}
	err := l.journal.write(frame)
	if errors.Is(err, errNoRoom) {
		l.wait()
		return l.carry(func(b *bbolt.Bucket) error { return putAll(b, copied) })
	}
	if err != nil {
		return l.fail(err)
	}
	l.hold(l.journal.number, copied)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == 0 {
		l.first = copied[0].Index
	}
	l.last = copied[len(copied)-1].Index
	return nil
}

// hold keeps entries in memory until the tree has them.
func (l *Log) hold(frame uint64, entries []raft.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.recent[e.Index] = held{e, frame}
	}
}

// DeleteRange removes the entries from min to max, both included. The cut that follows a snapshot
// leaves what Anchor has put in its place, if there are entries behind it.
//
// A cut at the end is made by the append that follows, in one transaction, and forgotten if that
// does not begin where it does: Raft goes on as if nothing had been cut when the append fails, and
// would miss the entries until its next start.
func (l *Log) DeleteRange(min, max uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	defer l.running.begin()()
	l.wait()
	err := l.Failed()
	if err == nil {
		first, _ := l.FirstIndex()
		last, _ := l.LastIndex()
		if first < min && min <= last && last <= max {
			l.cut = min
			return nil
		}
		if l.anchor == max && max < last {
			max--
		}
		l.anchor = 0
		err = l.carry(func(b *bbolt.Bucket) error { return deleteRange(b, min, max) })
	}
	if err != nil {
		return fmt.Errorf("delete raft log %d to %d: %w", min, max, err)
	}
	return nil
}

// deleteRange removes entries. It looks for each one behind the one that it has removed: Next
// would skip some, and a search from min would pass all the pages that were emptied before.
func deleteRange(b *bbolt.Bucket, min, max uint64) error {
	c := b.Cursor()
	for k, _ := c.Seek(key(min)); k != nil && number(k) <= max; k, _ = c.Seek(key(min)) {
		min = number(k) + 1
		if err := c.Delete(); err != nil {
			return err
		}
		if min == 0 { // the highest index there is
			return nil
		}
	}
	return nil
}

// begin starts the transaction that brings what is in memory now into the tree, while appends go
// on in the other file.
func (l *Log) begin() {
	upTo, done := l.journal.number, make(chan struct{})
	l.carried = done
	go func() {
		defer close(done)
		defer l.running.begin()()
		// Without room, the entries stay where they are and the next append tries again; other
		// errors stay in failed.
		_ = l.commit(upTo, nil)
	}()
}

// wait returns when no transaction runs behind the appends.
func (l *Log) wait() {
	if l.carried != nil {
		<-l.carried
		l.carried = nil
	}
}

// carriedOther reports whether the tree has all of the file that is not written at present.
func (l *Log) carriedOther() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.failed == nil && l.journal.seg[1-l.journal.active].last <= l.carriedTo
}
