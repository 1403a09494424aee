package logfmt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	readBytes = 256 << 10 // more than the largest record
	pollMin   = 5 * time.Millisecond
	pollMax   = 50 * time.Millisecond
)

// Reader reads a log from old to new, while it is written. It is for one goroutine.
type Reader struct {
	dir  string
	file *os.File // nil before the first segment
	next uint64   // sequence number of the next entry; 0 before the first segment
	buf  []byte   // bytes read from file
	at   int      // how much of buf is consumed
	done bool     // the last record says that the output ended
	// suspect: the segment is damaged, so that next may be wrong.
	suspect bool
	// gap is reported before anything else.
	gap uint64
}

// NewReader returns a reader at the oldest entry of the log in dir. The directory need not be
// there yet. The caller closes it.
func NewReader(dir string) *Reader { return &Reader{dir: dir} }

// Close gives the open segment back.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

// Ended reports whether the writer said that the output has ended and all of it was read.
func (r *Reader) Ended() bool { return r.done }

// Next returns the next entry. io.EOF says that there is none now; there may be one later.
func (r *Reader) Next() (Entry, error) {
	for {
		if r.gap > 0 {
			e := Entry{Seq: r.next - 1, Stream: Dropped, Missing: r.gap, Time: time.Now()}
			r.gap = 0
			return e, nil
		}
		if r.file == nil {
			if err := r.advance(); err != nil {
				return Entry{}, err
			}
			continue
		}
		rec, n, err := parseRecord(r.buf[r.at:])
		if err == nil {
			r.at += n
			if e, ok := r.entry(&rec); ok {
				return e, nil
			}
			continue
		}
		if errors.Is(err, errDamaged) && r.resync() {
			continue
		}
		if more, err := r.fill(); err != nil {
			return Entry{}, err
		} else if more {
			continue
		}
		if err := r.advance(); err != nil {
			return Entry{}, err
		}
	}
}

// entry turns a record into an entry; false for one that is none.
func (r *Reader) entry(rec *record) (Entry, bool) {
	r.done = rec.stream == ended
	at := time.Unix(0, rec.nanos)
	switch rec.stream {
	case ended:
		return Entry{}, false
	case Dropped:
		n := rec.missing()
		r.next += n
		return Entry{Seq: r.next - 1, Time: at, Stream: Dropped, Missing: n}, n > 0
	}
	e := Entry{Seq: r.next, Time: at, Stream: rec.stream, Partial: rec.partial, Text: rec.text}
	r.next++
	return e, true
}

// resync skips a damaged record, if what follows it is here.
func (r *Reader) resync() bool {
	end := bytes.IndexByte(r.buf[r.at:], '\n')
	if end < 0 {
		if len(r.buf)-r.at < TextMax+headMax {
			return false
		}
		end = len(r.buf) - r.at - 1
	}
	r.at += end + 1
	r.suspect = true
	return true
}

// fill reads more of the segment.
func (r *Reader) fill() (bool, error) {
	if r.buf == nil {
		r.buf = make([]byte, 0, readBytes)
	}
	if r.at > 0 {
		r.buf = r.buf[:copy(r.buf, r.buf[r.at:])]
		r.at = 0
	}
	n, err := r.file.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read log: %w", err)
	}
	return n > 0, nil
}

// advance opens the segment that follows. io.EOF if there is none.
func (r *Reader) advance() error {
	if r.file != nil {
		if f, err := os.Open(segmentPath(r.dir, r.next)); err == nil && !sameFile(f, r.file) {
			// The writer may have added to the old one between our last read and now.
			if more, err := r.fill(); more || err != nil {
				return errors.Join(err, f.Close())
			}
			r.use(f, r.next)
			return nil
		} else if err == nil {
			_ = f.Close()
		}
		if !r.unlinked() && !r.suspect && r.at == len(r.buf) {
			return io.EOF
		}
	}
	return r.advanceByList()
}

// advanceByList opens the oldest segment that holds the next entry or a later one. It is for
// when the name of the next segment cannot be told: at the start, after a removal or damage.
func (r *Reader) advanceByList() error {
	seqs, err := listSegments(r.dir)
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		if seq < r.next {
			continue
		}
		f, err := os.Open(segmentPath(r.dir, seq))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed just now
		}
		if err != nil {
			return fmt.Errorf("open log segment: %w", err)
		}
		if r.file != nil && sameFile(f, r.file) {
			_ = f.Close()
			continue
		}
		if r.next > 0 {
			r.gap = seq - r.next
		}
		r.use(f, seq)
		return nil
	}
	return io.EOF
}

// use makes f the segment to read.
func (r *Reader) use(f *os.File, seq uint64) {
	if r.file != nil {
		_ = r.file.Close()
	}
	r.file, r.next, r.at, r.buf, r.suspect = f, seq, 0, r.buf[:0], false
}

// unlinked reports whether the open segment was removed.
func (r *Reader) unlinked() bool {
	info, err := r.file.Stat()
	if err != nil {
		return true
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

func sameFile(a, b *os.File) bool {
	x, errA := a.Stat()
	y, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(x, y)
}

// SeekTime moves to the first entry at or after t. Segments that are wholly older are not read.
func (r *Reader) SeekTime(t time.Time) error {
	seqs, err := listSegments(r.dir)
	if err != nil {
		return err
	}
	for i, seq := range seqs {
		if i+1 < len(seqs) && !firstTime(segmentPath(r.dir, seqs[i+1])).After(t) {
			continue
		}
		if err := r.open(seq); err != nil {
			return err
		}
		break
	}
	return r.skip(func(e *Entry) bool { return e.Time.Before(t) })
}

// SeekTail moves to the last n entries.
func (r *Reader) SeekTail(n int) error {
	seqs, err := listSegments(r.dir)
	if err != nil || len(seqs) == 0 {
		return err
	}
	last := seqs[len(seqs)-1]
	count, err := countEntries(segmentPath(r.dir, last))
	if err != nil {
		return err
	}
	want := max(int64(last+count)-int64(max(n, 0)), int64(seqs[0]))
	for i := len(seqs) - 1; i >= 0; i-- {
		if seqs[i] > uint64(want) {
			continue
		}
		if err := r.open(seqs[i]); err != nil {
			return err
		}
		break
	}
	return r.skip(func(e *Entry) bool { return e.Seq < uint64(want) })
}

// open makes the given segment the one to read; one that is gone by now leaves the choice to
// Next.
func (r *Reader) open(seq uint64) error {
	f, err := os.Open(segmentPath(r.dir, seq))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open log segment: %w", err)
	}
	r.use(f, seq)
	return nil
}

// skip passes over entries for which f holds.
func (r *Reader) skip(f func(*Entry) bool) error {
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !f(&e) {
			r.unread(&e)
			return nil
		}
	}
}

// unread steps back over e, which was the last entry that Next returned.
func (r *Reader) unread(e *Entry) {
	if e.Stream == Dropped {
		r.gap = e.Missing
		return
	}
	r.at -= len(appendRecord(nil, e.Time.UnixNano(), e.Stream, e.Partial, e.Text))
	r.next--
}

// Follow yields every entry from here on as it is written. It ends after the writer's mark of
// the end, or when ctx ends; cancelling ctx after the writer is known to be dead loses nothing
// that Next would still return.
func (r *Reader) Follow(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		wait := pollMin
		for ctx.Err() == nil {
			e, err := r.Next()
			switch {
			case err == nil:
				wait = pollMin
				if !yield(e, nil) {
					return
				}
				continue
			case !errors.Is(err, io.EOF):
				yield(Entry{}, err)
				return
			case r.done:
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, pollMax)
		}
	}
}

// listSegments returns the first entries of the segments in dir, sorted.
func listSegments(dir string) ([]uint64, error) {
	names, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list log segments: %w", err)
	}
	var seqs []uint64
	for _, n := range names {
		if seq, ok := segmentSeq(n.Name()); ok {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs)
	return seqs, nil
}

// countEntries returns how many sequence numbers the whole records of a segment take.
func countEntries(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open log segment: %w", err)
	}
	r := &Reader{file: f}
	defer r.Close()

	for {
		rec, n, err := parseRecord(r.buf[r.at:])
		switch {
		case err == nil:
			r.at += n
			r.entry(&rec)
			continue
		case errors.Is(err, errDamaged) && r.resync():
			continue
		}
		if more, err := r.fill(); !more || err != nil {
			return r.next, err
		}
	}
}

// firstTime returns the time of the first record of a segment, or the far future.
func firstTime(path string) time.Time {
	b := make([]byte, 20)
	if f, err := os.Open(path); err == nil {
		_, err = io.ReadFull(f, b)
		_ = f.Close()
		if nanos, _, bad := parseInt(b, 0); err == nil && bad == nil {
			return time.Unix(0, nanos)
		}
	}
	return time.Unix(1<<40, 0)
}
