package boltlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// The journal is two files that are written in turn, each from its beginning. A frame holds the
// entries of one append: magic (4) number (8) length of the body (4) CRC-32C of salt, number,
// length and body (4) body, and zeros up to the next sector. The body is, for each entry, index (8)
// length (4) and the entry as the tree has it. Frames are numbered without a gap over both files
// and for the whole life of the log; the tree knows the number up to which it has them.
//
// A frame begins a sector, so that one that is torn cannot harm the one before it, and is only
// written when the one before it is on the disk. What does not count at the end is therefore one
// frame that nobody was told of; if a later one counts, the disk has lost something.
const (
	segmentSize = 4 << 20
	growStep    = 1 << 20 // zeros are written ahead by this much: writing over is cheaper than growing
	sector      = 512
	frameHead   = 4 + 8 + 4 + 4
	frameMagic  = 0x534c4a31 // "SLJ1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNoRoom says that a frame does not fit into the journal now.
var errNoRoom = errors.New("no room in the journal")

// journal appends frames. Its owner serialises the calls.
type journal struct {
	salt   uint64 // of this log: frames of another one do not count
	seg    [2]segment
	active int
	number uint64 // of the last frame, here or in the tree
	stale  bool   // the next number stands in a frame that the disk has refused, perhaps as a whole
	buf    []byte
}

type segment struct {
	file File
	off  int64  // where the next frame goes
	size int64  // of the file; what lies below it has blocks on the disk
	last uint64 // number of the last frame that went here
}

// encode builds the next frame in buf.
func (j *journal) encode(entries []*raft.Log) []byte {
	b := append(j.buf[:0], make([]byte, frameHead)...)
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, e.Index)
		b = binary.BigEndian.AppendUint32(b, uint32(entryHead+len(e.Data)+len(e.Extensions)))
		b = appendEntry(b, e)
	}
	binary.BigEndian.PutUint32(b, frameMagic)
	binary.BigEndian.PutUint64(b[4:], j.number+1)
	binary.BigEndian.PutUint32(b[12:], uint32(len(b)-frameHead))
	binary.BigEndian.PutUint32(b[16:], j.sum(b))
	for len(b)%sector != 0 {
		b = append(b, 0)
	}
	j.buf = b
	return b
}

// sum is the checksum of a frame without its padding.
func (j *journal) sum(frame []byte) uint32 { return saltedSum(j.salt, frame) }

// saltedSum is the CRC-32C of what has a magic number (4) in front, 12 bytes of head, a place for
// the sum (4) and a body. With the salt, what was not written by this log does not count.
func saltedSum(salt uint64, b []byte) uint32 {
	c := crc32.Update(0, castagnoli, key(salt))
	c = crc32.Update(c, castagnoli, b[4:16])
	return crc32.Update(c, castagnoli, b[20:])
}

// write makes a frame durable in the active file. errNoRoom means that nothing was written, or
// nothing that counts; after any other error it is not known what the disk has.
func (j *journal) write(frame []byte) error {
	s := &j.seg[j.active]
	end := s.off + int64(len(frame))
	if end > segmentSize || j.stale {
		return errNoRoom
	}
	if end > s.size {
		size := min(segmentSize, (end+growStep-1)/growStep*growStep)
		if err := s.grow(end, size); err != nil {
			return refused(err)
		}
	}
	if _, err := s.file.WriteAt(frame, s.off); err != nil {
		j.stale = true
		return refused(err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	j.number++
	s.off, s.last = end, j.number
	if cap(j.buf) > growStep {
		j.buf = nil
	}
	return nil
}

// grow writes zeros from at to size.
func (s *segment) grow(at, size int64) error {
	if _, err := s.file.WriteAt(make([]byte, size-at), at); err != nil {
		return err
	}
	s.size = size
	return nil
}

// refused turns the error of a disk without room, which leaves the journal as it was, into
// errNoRoom.
func refused(err error) error {
	if full(err) {
		return fmt.Errorf("%w: %w", errNoRoom, err)
	}
	return fmt.Errorf("write journal: %w", err)
}

// mustTurn reports whether a frame fits into the other file only.
func (j *journal) mustTurn(frame []byte) bool {
	return j.seg[j.active].off+int64(len(frame)) > segmentSize && len(frame) <= segmentSize && !j.stale
}

// turn goes on in the other file, which the tree must have as a whole.
func (j *journal) turn() {
	j.active = 1 - j.active
	j.seg[j.active].off = 0
}

// restart begins anew behind a number up to which the tree has everything.
func (j *journal) restart(number uint64) {
	j.number, j.stale = number, false
	j.seg[j.active].off = 0
}

// frame is one that was read back.
type frame struct {
	number  uint64
	entries []raft.Log
}

// read returns the frames after number, in order. Lost ones are an error.
func (j *journal) read(number uint64) ([]frame, error) {
	found := map[uint64]frame{}
	for i := range j.seg {
		if err := j.scan(&j.seg[i], number, found); err != nil {
			return nil, err
		}
	}
	var out []frame
	for n := number + 1; len(out) < len(found); n++ {
		f, ok := found[n]
		if !ok {
			return nil, fmt.Errorf("the journal is damaged: append %d is missing and later ones are there; restore this server from a backup or let it join again empty", n)
		}
		out = append(out, f)
	}
	return out, nil
}

// scan collects the frames of a file that come after number.
func (j *journal) scan(s *segment, number uint64, found map[uint64]frame) error {
	b := make([]byte, s.size)
	if _, err := s.file.ReadAt(b, 0); err != nil && s.size > 0 {
		return fmt.Errorf("read journal: %w", err)
	}
	for at := 0; at+frameHead <= len(b); {
		f, ok := j.whole(b[at:])
		if !ok {
			at += sector
			continue
		}
		if n := binary.BigEndian.Uint64(f[4:]); n > number {
			entries, err := decodeBody(f[frameHead:])
			if err != nil {
				return err
			}
			found[n] = frame{n, entries}
		}
		at += (len(f) + sector - 1) / sector * sector
	}
	return nil
}

// whole returns the frame that b begins with, without padding.
func (j *journal) whole(b []byte) ([]byte, bool) {
	if binary.BigEndian.Uint32(b) != frameMagic {
		return nil, false
	}
	n := int(binary.BigEndian.Uint32(b[12:]))
	if n > len(b)-frameHead {
		return nil, false
	}
	f := b[:frameHead+n]
	return f, binary.BigEndian.Uint32(f[16:]) == j.sum(f)
}

func decodeBody(b []byte) ([]raft.Log, error) {
	var out []raft.Log
	for len(b) > 0 {
		if len(b) < 12 || int(binary.BigEndian.Uint32(b[8:])) > len(b)-12 {
			return nil, errors.New("read journal: a frame ends within an entry")
		}
		index, n := binary.BigEndian.Uint64(b), int(binary.BigEndian.Uint32(b[8:]))
		var e raft.Log
		if err := decode(index, b[12:12+n], &e); err != nil {
			return nil, err
		}
		out, b = append(out, e), b[12+n:]
	}
	return out, nil
}
