package boltlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// The file of values is two slots that are written in turn, each with all values: magic (4)
// generation (8) length of the body (4) CRC-32C of the salt of the log, generation, length and
// body (4) body. The body is, for each value, length of the key (2), key, length (2), value. The
// slot with the higher generation counts, if the tree has none that is higher.
//
// It is there because Raft ends the program when it cannot store its term, and a full disk is no
// reason for that: writing over a slot needs no room.
const (
	slotSize   = 4 << 10
	slotHead   = 4 + 8 + 4 + 4
	slotMagic  = 0x534c5631 // "SLV1"
	valuesFile = ".values"  // behind the name of the tree
)

// values are the stable values, all of them in memory.
type values struct {
	salt uint64
	file File

	mu         sync.Mutex
	all        map[string][]byte
	generation uint64 // of what is in all
}

// open reads the values; those of the tree are in all already.
func (v *values) open(file File) error {
	v.file = file
	size, err := file.Size()
	if err != nil {
		return err
	}
	b := make([]byte, 2*slotSize)
	if size < int64(len(b)) { // blocks for both slots, once and for all
		if _, err := file.WriteAt(b, 0); err != nil {
			return err
		}
		return file.Sync()
	}
	if _, err := file.ReadAt(b, 0); err != nil {
		return fmt.Errorf("read values: %w", err)
	}
	for _, slot := range [][]byte{b[:slotSize], b[slotSize:]} {
		if generation, all, ok := v.decode(slot); ok && generation > v.generation {
			v.generation, v.all = generation, all
		}
	}
	return nil
}

// set stores one value.
func (v *values) set(k string, value []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := maps.Clone(v.all)
	next[k] = bytes.Clone(value)
	slot, err := v.encode(v.generation+1, next)
	if err != nil {
		return err
	}
	if _, err := v.file.WriteAt(slot, int64(v.generation+1)%2*slotSize); err != nil {
		return err
	}
	if err := v.file.Sync(); err != nil {
		return err
	}
	v.generation, v.all = v.generation+1, next
	return nil
}

// present returns the values, not to be modified, and their generation.
func (v *values) present() (map[string][]byte, uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.all, v.generation
}

func (v *values) encode(generation uint64, all map[string][]byte) ([]byte, error) {
	b := binary.BigEndian.AppendUint32(nil, slotMagic)
	b = binary.BigEndian.AppendUint64(b, generation)
	b = append(b, make([]byte, 8)...)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		for _, part := range [][]byte{[]byte(k), all[k]} {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(part))), part...)
			if len(b) > slotSize {
				return nil, fmt.Errorf("the values have more than %d bytes", slotSize)
			}
		}
	}
	binary.BigEndian.PutUint32(b[12:], uint32(len(b)-slotHead))
	binary.BigEndian.PutUint32(b[16:], saltedSum(v.salt, b))
	return b, nil
}

func (v *values) decode(slot []byte) (generation uint64, all map[string][]byte, ok bool) {
	n := binary.BigEndian.Uint32(slot[12:])
	if binary.BigEndian.Uint32(slot) != slotMagic || n > slotSize-slotHead {
		return 0, nil, false
	}
	slot = slot[:slotHead+n]
	if binary.BigEndian.Uint32(slot[16:]) != saltedSum(v.salt, slot) {
		return 0, nil, false
	}
	all = map[string][]byte{}
	next := func(b []byte) (part, rest []byte) {
		n := 2 + int(binary.BigEndian.Uint16(b)) // the sum says that encode has written it
		return b[2:n], b[n:]
	}
	for b := slot[slotHead:]; len(b) > 0; {
		var k, value []byte
		k, b = next(b)
		value, b = next(b)
		all[string(k)] = value
	}
	return binary.BigEndian.Uint64(slot[4:]), all, true
}

// Set stores a stable value.
func (l *Log) Set(k, v []byte) error {
	defer l.running.begin()()
	if err := l.values.set(string(k), v); err != nil {
		return fmt.Errorf("store %s: %w", k, l.fail(err))
	}
	return nil
}

// Get reads a stable value.
func (l *Log) Get(k []byte) ([]byte, error) {
	all, _ := l.values.present()
	v, ok := all[string(k)]
	if !ok {
		return nil, errKeyNotFound
	}
	return bytes.Clone(v), nil
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
