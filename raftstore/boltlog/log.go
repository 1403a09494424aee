package boltlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// The layout of the file: logs, index (8 bytes, big-endian) → entry; stable, key → value.
//
// An entry is: term (8 bytes) type (1) appended at, ns since 1970 (8) length of data (4) data
// extensions.
var (
	bucketLogs   = []byte("logs")
	bucketStable = []byte("stable")
)

const entryHead = 8 + 1 + 8 + 4

// errKeyNotFound has the text that hashicorp/raft compares with.
var errKeyNotFound = errors.New("not found")

// Log is a raft.LogStore and a raft.StableStore. It is safe for concurrent use.
type Log struct {
	db *bbolt.DB

	mu          sync.RWMutex
	first, last uint64 // 0 when empty
	reserve     reserve
}

var (
	_ raft.LogStore    = (*Log)(nil)
	_ raft.StableStore = (*Log)(nil)
)

// Open opens or creates the file. A file that another process holds is an error after a
// second.
func Open(path string) (*Log, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	})
	if err != nil {
		return nil, fmt.Errorf("open raft log %s: %w", path, err)
	}
	l := &Log{db: db, reserve: reserve{path: path}}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketLogs, bucketStable} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		c := tx.Bucket(bucketLogs).Cursor()
		if k, _ := c.First(); k != nil {
			l.first = binary.BigEndian.Uint64(k)
		}
		if k, _ := c.Last(); k != nil {
			l.last = binary.BigEndian.Uint64(k)
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open raft log %s: %w", path, err)
	}
	l.reserve.renew(time.Now())
	return l, nil
}

// Close closes the file.
func (l *Log) Close() error { return l.db.Close() }

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

// StoreLogs appends entries in one transaction: all are durable or none is.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	err := l.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketLogs)
		b.FillPercent = 0.95 // keys only rise
		for _, e := range entries {
			if err := b.Put(key(e.Index), encode(e)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("append raft log %d to %d: %w", entries[0].Index, entries[len(entries)-1].Index, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == 0 {
		l.first = entries[0].Index
	}
	l.last = entries[len(entries)-1].Index
	l.reserve.renew(time.Now())
	return nil
}

// DeleteRange removes the entries from min to max, both included.
func (l *Log) DeleteRange(min, max uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.db.Update(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketLogs).Cursor()
		for k, _ := c.Seek(key(min)); k != nil && binary.BigEndian.Uint64(k) <= max; k, _ = c.Next() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete raft log %d to %d: %w", min, max, err)
	}
	return l.bounds()
}

// bounds reads the first and last index again.
func (l *Log) bounds() error {
	l.first, l.last = 0, 0
	return l.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketLogs).Cursor()
		if k, _ := c.First(); k != nil {
			l.first = binary.BigEndian.Uint64(k)
		}
		if k, _ := c.Last(); k != nil {
			l.last = binary.BigEndian.Uint64(k)
		}
		return nil
	})
}

// Set stores a stable value.
func (l *Log) Set(k, v []byte) error {
	return l.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketStable).Put(k, v) })
}

// Get reads a stable value.
func (l *Log) Get(k []byte) (v []byte, err error) {
	err = l.db.View(func(tx *bbolt.Tx) error {
		stored := tx.Bucket(bucketStable).Get(k)
		if stored == nil {
			return errKeyNotFound
		}
		v = append([]byte{}, stored...)
		return nil
	})
	return v, err
}

// SetUint64 stores a stable number.
func (l *Log) SetUint64(k []byte, v uint64) error { return l.Set(k, key(v)) }

// GetUint64 reads a stable number; 0 if there is none.
func (l *Log) GetUint64(k []byte) (uint64, error) {
	v, err := l.Get(k)
	if err != nil {
		if errors.Is(err, errKeyNotFound) {
			return 0, errKeyNotFound
		}
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("stable value %q has %d bytes, want 8", k, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

func key(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func encode(e *raft.Log) []byte {
	b := make([]byte, 0, entryHead+len(e.Data)+len(e.Extensions))
	b = binary.BigEndian.AppendUint64(b, e.Term)
	b = append(b, byte(e.Type))
	b = binary.BigEndian.AppendUint64(b, uint64(e.AppendedAt.UnixNano()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
	b = append(b, e.Data...)
	return append(b, e.Extensions...)
}

func decode(index uint64, b []byte, out *raft.Log) error {
	if len(b) < entryHead {
		return fmt.Errorf("raft log %d is damaged: %d bytes; restore this server from a backup or let it join again empty", index, len(b))
	}
	n := int(binary.BigEndian.Uint32(b[17:]))
	if entryHead+n > len(b) {
		return fmt.Errorf("raft log %d is damaged: says %d bytes of data, has %d; restore this server from a backup or let it join again empty", index, n, len(b)-entryHead)
	}
	data := append([]byte(nil), b[entryHead:]...)
	*out = raft.Log{
		Index: index, Term: binary.BigEndian.Uint64(b), Type: raft.LogType(b[8]),
		AppendedAt: time.Unix(0, int64(binary.BigEndian.Uint64(b[9:]))),
		Data:       data[:n:n],
	}
	if len(data) > n {
		out.Extensions = data[n:]
	}
	return nil
}
