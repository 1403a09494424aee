package chaos

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The layout of the log's files, as far as a crash can leave them half written.
const (
	// A tree of bbolt begins with two pages with a description each, of which the one with the
	// higher transaction that is whole counts.
	pageHead   = 16            // bytes before the description
	pagesInUse = pageHead + 40 // offset of the number of pages in use
	pageTx     = pageHead + 48 // offset of the transaction

	// A journal has frames, which begin at sectors: magic (4) number (8) length (4) sum (4) body.
	sector     = 512
	frameHead  = 20
	frameMagic = 0x534c4a31
)

const imageTries = 1000

// image copies what is on the disk of a server that was killed this moment: what its program
// has written and nothing else. The program may go on writing meanwhile; a copy of several
// moments is made again.
func image(from, to string) error {
	for range imageTries {
		first, err := contents(from)
		if err != nil {
			continue // a snapshot was renamed meanwhile
		}
		second, err := contents(from)
		if err != nil || !maps.Equal(first, second) {
			continue
		}
		return write(to, first)
	}
	return fmt.Errorf("%s does not come to rest", from)
}

// contents reads all files below a directory, the snapshots last: one without the entries that
// it makes superfluous would be a state that no crash leaves.
func contents(dir string) (map[string]string, error) {
	out := map[string]string{}
	add := func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[rel] = string(b)
		return err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "raft.db*"))
	if err != nil {
		return nil, err
	}
	for _, path := range logs {
		if err := add(path); err != nil {
			return nil, err
		}
	}
	return out, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || slices.Contains(logs, path) {
			return err
		}
		return add(path)
	})
}

func write(dir string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// tear writes into a log what a write that the crash cut off may leave there.
func tear(dir string, r *rand.Rand) error {
	if err := tearTree(filepath.Join(dir, "raft.db"), r); err != nil {
		return err
	}
	journals, err := filepath.Glob(filepath.Join(dir, "raft.db.*"))
	if err != nil {
		return err
	}
	return tearJournal(journals, r)
}

// tearTree begins a transaction: it had written to pages beyond those in use, and a part of the
// older one of the two descriptions.
func tearTree(path string, r *rand.Rand) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	page, newer := os.Getpagesize(), 0
	if binary.NativeEndian.Uint64(b[page+pageTx:]) > binary.NativeEndian.Uint64(b[pageTx:]) {
		newer = 1
	}
	end := page * int(binary.NativeEndian.Uint64(b[newer*page+pagesInUse:]))
	scribble(b[min(end, len(b)):min(end+r.IntN(8*page), len(b))], r)
	older := b[(1-newer)*page+pageHead:]
	scribble(older[:1+r.IntN(64)], r)
	return os.WriteFile(path, b, 0o600)
}

// tearJournal begins a frame behind the last one, of which not all sectors have got to the disk.
func tearJournal(paths []string, r *rand.Rand) error {
	var last uint64
	var path string
	var at int
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for off := 0; off+sector <= len(b) && binary.BigEndian.Uint32(b[off:]) == frameMagic; {
			n := binary.BigEndian.Uint64(b[off+4:])
			size := (frameHead + int(binary.BigEndian.Uint32(b[off+12:])) + sector - 1) / sector * sector
			if n > last {
				last, path, at = n, p, off+size
			} else if n < last {
				break // what follows is of the last time that the file was written
			}
			off += size
		}
	}
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	torn := sector * (1 + r.IntN(8))
	if at+torn > len(b) {
		return nil
	}
	scribble(b[at:at+torn], r)
	binary.BigEndian.PutUint32(b[at:], frameMagic)
	binary.BigEndian.PutUint64(b[at+4:], last+1)
	binary.BigEndian.PutUint32(b[at+12:], uint32(torn-frameHead))
	return os.WriteFile(path, b, 0o600)
}

func scribble(b []byte, r *rand.Rand) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// files lists a directory for a failing test.
func files(dir string) string {
	all, err := contents(dir)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s: %d bytes\n", name, len(all[name]))
	}
	return b.String()
}
