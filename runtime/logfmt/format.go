package logfmt

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultMax bounds all segments of a log together, in bytes.
	DefaultMax = 16 << 20
	// TextMax is the most bytes of text in one entry; a longer line is split.
	TextMax = 64 << 10

	// segmentsPerLog is how many full segments fit into the bound.
	segmentsPerLog = 8
	// headMax is the most bytes before the text: three numbers, two letters and the blanks.
	headMax = 20 + 1 + 1 + 1 + 1 + 1 + 10 + 1
	suffix  = ".log"
)

// Stream says where an entry comes from.
type Stream byte

// The streams.
const (
	Stdout Stream = 'o'
	Stderr Stream = 'e'
	// Dropped stands for entries that are missing; Entry.Missing says how many.
	Dropped Stream = 'd'

	// ended is the mark of the end of the output. It is not an entry.
	ended Stream = 'x'
)

// String returns "stdout", "stderr" or "dropped".
func (s Stream) String() string {
	switch s {
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	case Dropped:
		return "dropped"
	}
	return fmt.Sprintf("stream(%q)", byte(s))
}

// Entry is one line of output, or a part of a long one.
type Entry struct {
	// Seq numbers the entries of a log from 1, without a hole except for those of Missing.
	Seq    uint64
	Time   time.Time
	Stream Stream
	// Partial: the line goes on in the next entry of the same stream, or the output ended.
	Partial bool
	// Text is raw, without a newline. It is valid until the next call of the reader.
	Text []byte
	// Missing, in an entry of stream Dropped, is how many entries were lost before Seq+1: the
	// disk was full, or the reader was overtaken by the removal of old segments.
	Missing uint64
}

// errTorn is a record that is not whole: there is more to come, or there was.
var errTorn = errors.New("torn record")

// errDamaged is a record that cannot have been written like this.
var errDamaged = errors.New("damaged record")

// appendRecord appends one record to b.
func appendRecord(b []byte, nanos int64, s Stream, partial bool, text ...[]byte) []byte {
	length := 0
	for _, t := range text {
		length += len(t)
	}
	flag := byte('-')
	if partial {
		flag = 'p'
	}
	b = strconv.AppendInt(b, nanos, 10)
	b = append(b, ' ', byte(s), ' ', flag, ' ')
	b = strconv.AppendInt(b, int64(length), 10)
	b = append(b, ' ')
	for _, t := range text {
		b = append(b, t...)
	}
	return append(b, '\n')
}

// record is a parsed record; text points into the buffer it was parsed from.
type record struct {
	nanos   int64
	stream  Stream
	partial bool
	text    []byte
}

// parseRecord parses the record at the start of b and returns its size in bytes. errTorn asks
// for more bytes.
func parseRecord(b []byte) (record, int, error) {
	var r record
	var at int
	var err error
	if r.nanos, at, err = parseInt(b, 0); err != nil {
		return r, 0, err
	}
	if len(b) < at+4 {
		return r, 0, errTorn
	}
	r.stream, r.partial = Stream(b[at]), b[at+2] == 'p'
	known := r.stream == Stdout || r.stream == Stderr || r.stream == Dropped || r.stream == ended
	if !known || b[at+1] != ' ' || b[at+3] != ' ' || (b[at+2] != '-' && b[at+2] != 'p') {
		return r, 0, errDamaged
	}
	length, at, err := parseInt(b, at+4)
	switch {
	case err != nil:
		return r, 0, err
	case length > TextMax:
		return r, 0, errDamaged
	case len(b) < at+int(length)+1:
		return r, 0, errTorn
	case b[at+int(length)] != '\n':
		return r, 0, errDamaged
	}
	r.text = b[at : at+int(length)]
	return r, at + int(length) + 1, nil
}

// parseInt reads a decimal number and one blank at b[at:], and returns the place behind them.
func parseInt(b []byte, at int) (int64, int, error) {
	var n int64
	for i := at; i < len(b); i++ {
		switch c := b[i]; {
		case c >= '0' && c <= '9' && i-at < 19:
			n = n*10 + int64(c-'0')
		case c == ' ' && i > at:
			return n, i + 1, nil
		default:
			return 0, 0, errDamaged
		}
	}
	return 0, 0, errTorn
}

// missing returns the count that a Dropped record carries.
func (r *record) missing() uint64 {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(r.text)), 10, 63)
	if err != nil {
		return 0
	}
	return n
}

// segmentPath returns the path of the segment that begins with entry seq.
func segmentPath(dir string, seq uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016d%s", seq, suffix))
}

// segmentSeq returns the first entry of the segment of the given name, or false if it is not
// the name of a segment.
func segmentSeq(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	return n, err == nil
}
