package boltlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// Set stores a stable value.
func (l *Log) Set(k, v []byte) error {
	defer l.running.begin()()
	if err := l.Failed(); err != nil {
		return fmt.Errorf("store %s: %w", k, err)
	}
	err := l.disk.Commit(func() error {
		return l.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketStable).Put(k, v) })
	})
	if err != nil {
		return fmt.Errorf("store %s: %w", k, l.fail(err))
	}
	return nil
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
	return number(v), nil
}

func key(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// number reads what key wrote, 0 where there is nothing.
func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// appendEntry appends the form of an entry to b.
func appendEntry(b []byte, e *raft.Log) []byte {
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
