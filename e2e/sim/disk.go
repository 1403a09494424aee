package sim

import (
	"bytes"
	"crypto/sha256"
)

// disk is what a server keeps. Writes reach it at a sync only; what was not synced is lost with
// the power, and the last record of it may be half there.
type disk struct {
	Full bool // refuses every write

	term     uint64
	vote     string
	snapshot snapshot
	records  [][]byte // of the log, each with its checksum
}

type snapshot struct {
	index, term uint64
	body        []byte
}

// entry is one entry of the replicated log.
type entry struct {
	index, term uint64
	data        []byte // empty for the barrier of a new leader
}

// encode writes an entry with its checksum.
func (e entry) encode() []byte {
	b := make([]byte, 16, 16+len(e.data)+sha256.Size)
	for i := range 8 {
		b[i], b[8+i] = byte(e.index>>(8*i)), byte(e.term>>(8*i))
	}
	b = append(b, e.data...)
	sum := sha256.Sum256(b)
	return append(b, sum[:8]...)
}

// decodeEntry reads an entry; false for one that is torn.
func decodeEntry(b []byte) (e entry, ok bool) {
	if len(b) < 24 {
		return e, false
	}
	body := b[:len(b)-8]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:8], b[len(b)-8:]) {
		return e, false
	}
	for i := range 8 {
		e.index |= uint64(body[i]) << (8 * i)
		e.term |= uint64(body[8+i]) << (8 * i)
	}
	e.data = body[16:]
	return e, true
}

// load reads the log back, up to the first torn record, which ends it.
func (d *disk) load() []entry {
	var log []entry
	for i, r := range d.records {
		e, ok := decodeEntry(r)
		if !ok {
			d.records = d.records[:i]
			break
		}
		log = append(log, e)
	}
	return log
}
