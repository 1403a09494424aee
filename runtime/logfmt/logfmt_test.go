package logfmt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func readAll(t testing.TB, r *Reader) []Entry {
	t.Helper()
	var got []Entry
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		e.Text = bytes.Clone(e.Text)
		got = append(got, e)
	}
}

// text joins what a stream wrote, newlines included.
func text(entries []Entry, s Stream) string {
	var b strings.Builder
	for _, e := range entries {
		if e.Stream == s {
			b.Write(e.Text)
			if !e.Partial {
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

func newWriter(t testing.TB, dir string, max int64) *Writer {
	t.Helper()
	w, err := NewWriter(dir, max)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestLinesComeBackInOrderWithStreamAndTime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, dir, 0)
	at := time.Unix(1795467600, 123)
	w.Write(Stdout, at, []byte("one\ntw"))
	w.Write(Stderr, at, []byte("\x1b[31mred\x1b[0m\x00\xff\n"))
	w.Write(Stdout, at.Add(time.Second), []byte("o\n\nno newline"))
	w.Close(true)

	r := NewReader(dir)
	defer r.Close()
	got := readAll(t, r)
	var lines []string
	for _, e := range got {
		lines = append(lines, fmt.Sprintf("%d %s %v %q", e.Seq, e.Stream, e.Partial, e.Text))
	}
	want := []string{
		`1 stdout false "one"`, `2 stderr false "\x1b[31mred\x1b[0m\x00\xff"`, `3 stdout false "two"`,
		`4 stdout false ""`, `5 stdout true "no newline"`,
	}
	if fmt.Sprint(lines) != fmt.Sprint(want) {
		t.Errorf("got %q\nwant %q", lines, want)
	}
	if !got[0].Time.Equal(at) || !r.Ended() {
		t.Errorf("time %v, ended %v", got[0].Time, r.Ended())
	}
}

// TestAnyChunksComeBackWhole is the law of the format: whatever is written, in whatever
// pieces, comes back byte for byte.
func TestAnyChunksComeBackWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(dir, fmt.Sprint(n))
		w, err := NewWriter(dir, 0)
		if err != nil {
			rt.Fatal(err)
		}
		var want [2]bytes.Buffer
		for range rapid.IntRange(0, 20).Draw(rt, "chunks") {
			i := rapid.IntRange(0, 1).Draw(rt, "stream")
			chunk := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(rt, "bytes"), rapid.SampledFrom([]int{1, 1, 1, 3000}).Draw(rt, "times"))
			if rapid.Bool().Draw(rt, "newline") {
				chunk = append(chunk, '\n')
			}
			want[i].Write(chunk)
			w.Write([]Stream{Stdout, Stderr}[i], time.Unix(5, 0), chunk)
		}
		w.Close(true)
		r := NewReader(dir)
		defer r.Close()
		got := readAll(t, r)
		for i, s := range []Stream{Stdout, Stderr} {
			if text(got, s) != want[i].String() {
				rt.Fatalf("%s: got %d bytes, want %d", s, len(text(got, s)), want[i].Len())
			}
		}
		for i, e := range got {
			if e.Seq != uint64(i+1) {
				rt.Fatalf("entry %d has seq %d", i, e.Seq)
			}
		}
	})
}

func TestLineOfTenMegabytesIsSplitAndWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 64<<20)
	long := strings.Repeat("0123456789", 1<<20)
	w.Drain(Stdout, strings.NewReader(long+"\nend\n"))
	w.Close(true)
	r := NewReader(dir)
	defer r.Close()
	got := readAll(t, r)
	if text(got, Stdout) != long+"\nend\n" {
		t.Errorf("got %d bytes in %d entries", len(text(got, Stdout)), len(got))
	}
}

func TestOldSegmentsGoAndTheReaderCountsWhatItMissed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const bound = 1 << 20
	w := newWriter(t, dir, bound)
	fmt.Fprintf(writeTo{w}, "first\n")
	w.mu.Lock()
	w.flushLocked(time.Now())
	w.mu.Unlock()
	r := NewReader(dir)
	defer r.Close()
	if e, err := r.Next(); err != nil || string(e.Text) != "first" {
		t.Fatal(e, err)
	}
	const lines = 50_000
	for i := range lines {
		fmt.Fprintf(writeTo{w}, "%099d\n", i)
	}
	w.Close(true)

	var size int64
	seqs, err := listSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range seqs {
		info, err := os.Stat(segmentPath(dir, s))
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > bound || size < bound/2 {
		t.Errorf("%d bytes in %d segments, the bound is %d", size, len(seqs), bound)
	}
	var missing, seen uint64
	last := uint64(1)
	for _, e := range readAll(t, r) {
		if e.Missing > 0 {
			missing += e.Missing
		} else {
			seen++
		}
		if e.Seq <= last {
			t.Fatalf("seq %d after %d", e.Seq, last)
		}
		last = e.Seq
	}
	if missing == 0 || missing+seen != lines || !r.Ended() {
		t.Errorf("seen %d + missing %d of %d, ended %v", seen, missing, lines, r.Ended())
	}
}

type writeTo struct{ w *Writer }

func (t writeTo) Write(p []byte) (int, error) {
	t.w.Write(Stdout, time.Now(), p)
	return len(p), nil
}

func TestTornAndDamagedRecordsDoNotStopTheReader(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		spoil func([]byte) []byte
		want  string
	}{
		{"torn text", func(b []byte) []byte { return b[:len(b)-3] }, "a\nb\nnew\n"},
		{"torn head", func(b []byte) []byte { return append(b, "17954"...) }, "a\nb\nc\nnew\n"},
		{"damaged middle", func(b []byte) []byte { b[len(b)/2-6] = '!'; return b }, "a\nc\nnew\n"},
		{"nothing whole", func(b []byte) []byte { return b[:9] }, "new\n"},
		{"empty", func(b []byte) []byte { return b[:0] }, "new\n"},
		{"zeros", func(b []byte) []byte { return append(b, make([]byte, 200<<10)...) }, "a\nb\nc\nnew\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := newWriter(t, dir, 0)
			w.Write(Stdout, time.Now(), []byte("a\nb\nc\n"))
			w.Close(false)
			path := segmentPath(dir, 1)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tc.spoil(b), 0o600); err != nil {
				t.Fatal(err)
			}
			r := NewReader(dir)
			defer r.Close()
			before := readAll(t, r)
			w = newWriter(t, dir, 0)
			w.Write(Stdout, time.Now(), []byte("new\n"))
			w.Close(true)
			if got := text(append(before, readAll(t, r)...), Stdout); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestSeek(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 1<<20)
	for i := range 9000 { // fills most of the bound, several segments
		w.Write(Stdout, time.Unix(int64(i), 0), fmt.Appendf(nil, "%080d\n", i))
	}
	w.Close(true)
	for _, tc := range []struct {
		name string
		seek func(*Reader) error
		want int
	}{
		{"tail 10", func(r *Reader) error { return r.SeekTail(10) }, 10},
		{"tail 5000", func(r *Reader) error { return r.SeekTail(5000) }, 5000},
		{"tail 0", func(r *Reader) error { return r.SeekTail(0) }, 0},
		{"time 8000", func(r *Reader) error { return r.SeekTime(time.Unix(8000, 0)) }, 1000},
		{"time future", func(r *Reader) error { return r.SeekTime(time.Unix(9e9, 0)) }, 0},
	} {
		r := NewReader(dir)
		if err := tc.seek(r); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, r); len(got) != tc.want {
			t.Errorf("%s: %d entries, want %d", tc.name, len(got), tc.want)
		}
		_ = r.Close()
	}
}

func TestFollowSeesEverythingWhileItIsWritten(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	r := NewReader(dir)
	defer r.Close()
	const lines = 20_000
	written := make(chan struct{})
	go func() {
		defer close(written)
		w, err := NewWriter(dir, 64<<20)
		for i := range lines {
			w.Write(Stdout, time.Now(), fmt.Appendf(nil, "line %d\n", i))
		}
		if err == nil {
			w.Close(true)
		}
	}()
	n := 0
	for e, err := range r.Follow(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("line %d", n); string(e.Text) != want {
			t.Fatalf("got %q, want %q", e.Text, want)
		}
		n++
	}
	<-written
	if n != lines {
		t.Errorf("followed %d of %d lines", n, lines)
	}
}

// TestDiskThatRefusesDropsAndCounts takes the disk away by closing the file under the writer.
func TestDiskThatRefusesDropsAndCounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 0)
	w.mu.Lock()
	good := w.file
	w.file, _ = os.Open(dir) // every write to it fails
	w.mu.Unlock()
	fmt.Fprint(writeTo{w}, "lost 1\nlost 2\n")
	w.mu.Lock()
	w.flushLocked(time.Now())
	_ = w.file.Close()
	w.file = good
	w.mu.Unlock()
	fmt.Fprint(writeTo{w}, "kept\n")
	w.Close(true)
	r := NewReader(dir)
	defer r.Close()
	got := readAll(t, r)
	if len(got) != 2 || got[0].Missing != 2 || string(got[1].Text) != "kept" || got[1].Seq != 3 {
		t.Errorf("got %+v", got)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte("1795467600000000000 o - 5 hello\n"))
	f.Add([]byte("9 e p 0 \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, n, err := parseRecord(b)
		if err != nil {
			return
		}
		again, m, err := parseRecord(appendRecord(nil, rec.nanos, rec.stream, rec.partial, rec.text))
		if err != nil || m > n || again.nanos != rec.nanos || !bytes.Equal(again.text, rec.text) {
			t.Fatalf("%q → %+v → %+v (%v)", b[:n], rec, again, err)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			chunk := bytes.Repeat(append(bytes.Repeat([]byte("x"), size-1), '\n'), 64<<10/size)
			w := newWriter(b, b.TempDir(), 0)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				w.Write(Stdout, time.Now(), chunk)
			}
			w.Close(true)
		})
	}
}

func BenchmarkRead(b *testing.B) {
	dir := b.TempDir()
	w := newWriter(b, dir, 64<<20)
	chunk := bytes.Repeat(append(bytes.Repeat([]byte("x"), 99), '\n'), 100_000)
	w.Write(Stdout, time.Now(), chunk)
	w.Close(true)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		r := NewReader(dir)
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
		_ = r.Close()
	}
}
