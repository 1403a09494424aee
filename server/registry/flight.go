package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"slipway/api"
)

// fetchDir holds blobs that are on their way here, below the root. Nothing else looks there.
const fetchDir = "fetch"

// holdBack is the end of a blob that nobody gets before the whole is verified, in bytes: who
// gets wrong bytes gets too few as well. A blob that is not longer is never sent wrong.
const holdBack = 64 << 10

// errVoid ends the answers to those who got bytes that turned out to be wrong.
var errVoid = errors.New("what came so far was wrong and is fetched again")

// flight is one blob on its way from the peers into a repository of this registry. All who want
// it share it and read along; it ends when the last of them leaves.
type flight struct {
	*Registry
	repo, hex string
	users     int // guarded by Registry.flightsMu
	cancel    context.CancelFunc
	ended     chan struct{} // closed when run has returned

	mu sync.Mutex

	moved chan struct{} // closed and replaced when anything below changes
	parts []*part       // the last one is read, those before it are void
	done  bool
	err   error // why it failed, once it is done
}

// part is one try to fetch the blob. Guarded by flight.mu.
type part struct {
	file *os.File
	size int64 // bytes
	have int64 // bytes in the file
}

// join returns the flight of a blob, a new one if there is none. The caller calls leave.
func (r *Registry) join(repo, hex string) *flight {
	key := repo + "@" + hex
	r.flightsMu.Lock()
	defer r.flightsMu.Unlock()
	if f, ok := r.flights[key]; ok {
		f.users++
		return f
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &flight{Registry: r, repo: repo, hex: hex, users: 1, cancel: cancel, ended: make(chan struct{}), moved: make(chan struct{})}
	r.flights[key] = f
	go func() { // the last one to leave waits for it
		defer close(f.ended)
		err := f.run(ctx)
		r.flightsMu.Lock()
		if r.flights[key] == f {
			delete(r.flights, key) // who comes now finds it here, or tries anew
		}
		r.flightsMu.Unlock()
		f.change(func() { f.done, f.err = true, err })
	}()
	return f
}

// leave ends a flight that nobody needs any more.
func (f *flight) leave() {
	key := f.repo + "@" + f.hex
	f.flightsMu.Lock()
	f.users--
	last := f.users == 0
	if last && f.flights[key] == f {
		delete(f.flights, key)
	}
	f.flightsMu.Unlock()
	if !last {
		return
	}
	f.cancel()
	<-f.ended
	for _, p := range f.parts {
		p.file.Close()
		_ = os.Remove(p.file.Name()) // the good one has moved away
	}
}

// run fetches the blob and stores it.
func (f *flight) run(ctx context.Context) error {
	if f.hasBlob(f.repo, f.hex) {
		return nil // it came between the look of the caller and this one
	}
	if f.hasData(f.hex) {
		return f.linkHere(ctx)
	}
	if err := f.peers.Download(ctx, peerBlob(f.repo, f.hex), "sha256:"+f.hex, f); err != nil {
		return err
	}
	return f.adopt(ctx, f.parts[len(f.parts)-1].file)
}

// linkHere adds a blob that another repository of this registry has, if a peer says that it
// belongs to this one as well.
func (f *flight) linkHere(ctx context.Context) error {
	if err := f.peers.confirm(ctx, peerBlob(f.repo, f.hex)); err != nil {
		return err
	}
	if err := f.gate.enter(ctx); err != nil {
		return err
	}
	defer f.gate.leave()
	if !f.hasData(f.hex) {
		return api.Errorf(api.CodeUnavailable, "blob %s was just collected; try again", f.hex)
	}
	f.touch(blobData(f.hex))
	return f.link(ctx)
}

func (f *flight) link(ctx context.Context) error {
	if err := f.driver.PutContent(ctx, layerLink(f.repo, f.hex), []byte("sha256:"+f.hex)); err != nil {
		return fmt.Errorf("link blob %s in %s: %w", f.hex, f.repo, err)
	}
	return nil
}

// adopt gives a verified file its name. It is on disk before that.
func (f *flight) adopt(ctx context.Context, file *os.File) error {
	if err := file.Sync(); err != nil {
		return fmt.Errorf("store blob %s: %w", f.hex, err)
	}
	if err := f.gate.enter(ctx); err != nil {
		return err
	}
	defer f.gate.leave()
	now := time.Now()
	_ = os.Chtimes(file.Name(), now, now) // else it is a little older
	if err := f.driver.Move(ctx, "/"+fetchDir+"/"+filepath.Base(file.Name()), blobData(f.hex)); err != nil {
		return fmt.Errorf("store blob %s: %w", f.hex, err)
	}
	return f.link(ctx)
}

// Reset implements Sink: it begins a new part.
func (f *flight) Reset(size int64) error {
	if f.full() {
		return api.Errorf(api.CodeExhausted, "%s", f.fullText())
	}
	file, err := os.CreateTemp(filepath.Join(f.config.Root, fetchDir), f.hex[:12]+"-")
	if err != nil {
		return fmt.Errorf("fetch blob %s: %w", f.hex, err)
	}
	f.change(func() { f.parts = append(f.parts, &part{file: file, size: size}) })
	return nil
}

// Write implements Sink.
func (f *flight) Write(p []byte) (int, error) {
	last := f.parts[len(f.parts)-1] // only this goroutine appends
	if last.have/int64(checkEvery) != (last.have+int64(len(p)))/int64(checkEvery) && f.full() {
		return 0, api.Errorf(api.CodeExhausted, "%s", f.fullText())
	}
	n, err := last.file.Write(p)
	f.change(func() { last.have += int64(n) })
	if err != nil {
		return n, fmt.Errorf("fetch blob %s: %w", f.hex, err)
	}
	return n, nil
}

// change makes a change and tells those who wait.
func (f *flight) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.moved)
	f.moved = make(chan struct{})
}

// await waits until ok, called with mu held, says so.
func (f *flight) await(ctx context.Context, ok func() bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !ok() {
		moved := f.moved
		f.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		f.mu.Lock()
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until the blob is stored here.
func (f *flight) wait(ctx context.Context) error {
	if err := f.await(ctx, func() bool { return f.done }); err != nil {
		return err
	}
	return f.err
}

// reader waits for the first bytes that may be read. It returns nil and no error for a blob that
// is stored here by now.
func (f *flight) reader(ctx context.Context) (*reader, error) {
	var p *part
	err := f.await(ctx, func() bool {
		if len(f.parts) > 0 {
			p = f.parts[len(f.parts)-1]
		}
		return f.done || p != nil && f.readableLocked(p) > 0
	})
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return nil, f.err
	}
	return &reader{ctx: ctx, flight: f, part: p}, nil
}

// readableLocked is how many bytes of a part may be read.
func (f *flight) readableLocked(p *part) int64 {
	if f.done && f.err == nil {
		return p.size
	}
	return min(p.have, p.size-holdBack)
}

// reader reads a blob while it comes. It is an io.ReadSeeker, as http.ServeContent needs it.
type reader struct {
	ctx    context.Context //nolint:containedctx // lives as long as one request
	flight *flight
	part   *part
	pos    int64
	err    error // why the blob did not come
}

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.part.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	r.pos = offset
	return offset, nil
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	if r.pos >= r.part.size {
		return 0, io.EOF
	}
	var readable int64
	err := r.flight.await(r.ctx, func() bool {
		f := r.flight
		readable = f.readableLocked(r.part)
		switch {
		case f.parts[len(f.parts)-1] != r.part:
			r.err = errVoid
		case f.done && f.err != nil:
			r.err = f.err
		}
		return r.err != nil || readable > r.pos
	})
	if err == nil {
		err = r.err
	}
	if err != nil {
		r.err = err
		return 0, err
	}
	n, err := r.part.file.ReadAt(b[:min(int64(len(b)), readable-r.pos)], r.pos)
	r.pos += int64(n)
	if errors.Is(err, io.EOF) && n > 0 {
		err = nil
	}
	return n, err
}
