package logfmt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// flushBytes is how much output is gathered before it is written at once.
	flushBytes = 128 << 10
	// flushDelay is the longest that output waits to be written.
	flushDelay = 5 * time.Millisecond
	// partialDelay is the longest that the start of a line waits for the rest of it.
	partialDelay = time.Second
	// reopenDelay is the wait between two tries to open a segment.
	reopenDelay = time.Second
)

// Writer appends output to a log. It never fails: what the disk refuses is dropped and
// counted, and the count is written as soon as the disk takes it. Its methods may be called
// from several goroutines.
type Writer struct {
	dir string
	max int64

	mu       sync.Mutex
	file     *os.File // nil while no segment could be opened
	size     int64    // bytes in file
	segments []segment
	next     uint64    // sequence number of the next entry
	retry    time.Time // when to try to open a segment again
	dropped  uint64    // entries dropped and not yet recorded
	buf      []byte    // records not yet written
	pending  uint64    // sequence numbers taken by buf
	carry    [2]carry  // the starts of lines, stdout and stderr
	timer    *time.Timer
	armed    bool
	closed   bool
}

type segment struct {
	seq  uint64
	size int64
}

type carry struct {
	text  []byte
	since time.Time
}

// NewWriter returns a writer to the log in dir, which is made if needed. max bounds all
// segments together, in bytes; 0 is DefaultMax. A log that is there is continued. The error
// says why nothing can be written now; the writer works nevertheless, and goes on trying.
func NewWriter(dir string, max int64) (*Writer, error) {
	if max <= 0 {
		max = DefaultMax
	}
	w := &Writer{dir: dir, max: max, next: 1, buf: make([]byte, 0, flushBytes+TextMax+2*headMax)}
	w.timer = time.AfterFunc(time.Hour, w.tick)
	w.timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()

	if err := os.MkdirAll(dir, 0o750); err != nil {
		return w, fmt.Errorf("make log directory: %w", err)
	}
	if err := w.recoverLocked(); err != nil {
		return w, err
	}
	return w, w.openLocked(time.Now())
}

// recoverLocked finds out where the log ends.
func (w *Writer) recoverLocked() error {
	seqs, err := listSegments(w.dir)
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		info, err := os.Stat(segmentPath(w.dir, seq))
		if err != nil {
			return fmt.Errorf("look at log segment: %w", err)
		}
		w.segments = append(w.segments, segment{seq, info.Size()})
	}
	if len(seqs) == 0 {
		return nil
	}
	last := seqs[len(seqs)-1]
	n, err := countEntries(segmentPath(w.dir, last))
	w.next = last + n
	if err == nil && n == 0 { // nothing whole in it: the new segment takes its name
		w.segments = w.segments[:len(w.segments)-1]
		err = os.Remove(segmentPath(w.dir, last))
	}
	return err
}

// Write appends output as it comes from a pipe, at the given time. p is not kept.
func (w *Writer) Write(s Stream, now time.Time, p []byte) {
	c := &w.carry[0]
	if s == Stderr {
		c = &w.carry[1]
	}
	nanos := now.UnixNano()
	w.mu.Lock()
	defer w.mu.Unlock()

	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 && len(c.text)+len(p) < TextMax {
			if len(c.text) == 0 {
				c.since = now
			}
			c.text = append(c.text, p...)
			break
		}
		whole := end >= 0 && len(c.text)+end <= TextMax
		if !whole {
			end = TextMax - len(c.text)
		}
		w.appendLocked(nanos, s, !whole, c.text, p[:end])
		c.text = c.text[:0]
		p = p[end:]
		if whole {
			p = p[1:]
		}
	}
	w.armLocked()
}

// appendLocked adds an entry to the buffer.
func (w *Writer) appendLocked(nanos int64, s Stream, partial bool, text ...[]byte) {
	if len(w.buf) >= flushBytes {
		w.flushLocked(time.Unix(0, nanos))
	}
	w.buf = appendRecord(w.buf, nanos, s, partial, text...)
	w.pending++
}

// armLocked makes sure that what waits is written in time.
func (w *Writer) armLocked() {
	switch {
	case w.armed || w.closed:
	case len(w.buf) > 0:
		w.armed = true
		w.timer.Reset(flushDelay)
	case len(w.carry[0].text) > 0 || len(w.carry[1].text) > 0:
		w.armed = true
		w.timer.Reset(partialDelay)
	}
}

// tick writes what has waited long enough. It runs on the timer.
func (w *Writer) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.armed = false
	if w.closed {
		return
	}
	now := time.Now()
	for i, s := range []Stream{Stdout, Stderr} {
		if c := &w.carry[i]; len(c.text) > 0 && now.Sub(c.since) >= partialDelay {
			w.appendLocked(now.UnixNano(), s, true, c.text)
			c.text = c.text[:0]
		}
	}
	w.flushLocked(now)
	w.armLocked()
}

// flushLocked writes the buffer to the current segment, or to a new one if it is full. The
// buffer is empty afterwards, whatever happened.
func (w *Writer) flushLocked(now time.Time) {
	if len(w.buf) == 0 && w.dropped == 0 {
		return
	}
	if w.file != nil && w.size > 0 && w.size+int64(len(w.buf)) > w.max/segmentsPerLog {
		w.closeSegmentLocked()
	}
	if w.file == nil && w.openLocked(now) != nil {
		w.dropLocked()
		return
	}
	if w.dropped > 0 {
		mark := appendRecord(nil, now.UnixNano(), Dropped, false, strconv.AppendUint(nil, w.dropped, 10))
		if w.writeLocked(mark) != nil {
			w.dropLocked()
			return
		}
		w.next += w.dropped
		w.dropped = 0
	}
	if w.writeLocked(w.buf) != nil {
		w.dropLocked()
		return
	}
	w.next += w.pending
	w.buf, w.pending = w.buf[:0], 0
}

// dropLocked gives the buffer up.
func (w *Writer) dropLocked() {
	w.dropped += w.pending
	w.buf, w.pending = w.buf[:0], 0
}

// writeLocked writes b whole or takes back what was written of it.
func (w *Writer) writeLocked(b []byte) error {
	n, err := w.file.Write(b)
	if err == nil {
		w.size += int64(n)
		w.segments[len(w.segments)-1].size = w.size
		return nil
	}
	if n > 0 && w.file.Truncate(w.size) != nil {
		w.closeSegmentLocked() // torn for good: readers skip the rest
	}
	return err
}

// openLocked begins a segment and removes old ones.
func (w *Writer) openLocked(now time.Time) error {
	if now.Before(w.retry) {
		return errTorn
	}
	f, err := os.OpenFile(segmentPath(w.dir, w.next), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o640)
	if err != nil {
		w.retry = now.Add(reopenDelay)
		return errors.Join(fmt.Errorf("open log segment: %w", err), os.MkdirAll(w.dir, 0o750))
	}
	w.file, w.size = f, 0
	if n := len(w.segments); n > 0 && w.segments[n-1].seq == w.next {
		w.segments = w.segments[:n-1]
	}
	w.segments = append(w.segments, segment{seq: w.next})
	total := w.max / segmentsPerLog // what the new one may grow to
	for _, s := range w.segments {
		total += s.size
	}
	for len(w.segments) > 1 && total > w.max {
		if err := os.Remove(segmentPath(w.dir, w.segments[0].seq)); err != nil && !errors.Is(err, os.ErrNotExist) {
			break // tried again with the next segment
		}
		total -= w.segments[0].size
		w.segments = w.segments[1:]
	}
	return nil
}

// closeSegmentLocked ends the current segment. It holds nothing that close could lose.
func (w *Writer) closeSegmentLocked() {
	_ = w.file.Close()
	w.file = nil
}

// Close writes what is left and, if end is set, that the output has ended.
func (w *Writer) Close(end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.closed {
		return
	}
	w.closed = true
	w.timer.Stop()
	now := time.Now()
	for i, s := range []Stream{Stdout, Stderr} {
		if c := &w.carry[i]; len(c.text) > 0 {
			w.appendLocked(now.UnixNano(), s, true, c.text)
			c.text = nil
		}
	}
	w.retry = time.Time{}
	w.flushLocked(now)
	if end && w.file != nil {
		_ = w.writeLocked(appendRecord(nil, now.UnixNano(), ended, false))
	}
	if w.file != nil {
		w.closeSegmentLocked()
	}
}

// Drain copies output from r to the log until its end. It never gives up before: whatever goes
// wrong in here, the application on the other end of the pipe must not block.
func (w *Writer) Drain(s Stream, r io.Reader) {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			w.Write(s, time.Now(), buf[:n])
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}
