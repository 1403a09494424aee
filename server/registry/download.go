package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Sink takes the bytes of a download. It is an alias, so that packages that do not know this one
// can ask for a Peers.
type Sink = interface {
	io.Writer
	// Reset tells the size, in bytes, before the first byte comes. All that came before is void:
	// it was not what the digest names.
	Reset(size int64) error
}

// rateMin is what a peer must send within an idle time while another could be asked, in bytes.
const rateMin = 256 << 10

// Download writes what path names into sink and returns nil once its digest, "sha256:…", is
// verified. When a peer dies, sends wrong bytes or is too slow, the next one goes on where it
// stopped; what came from a peer whose bytes were wrong is begun anew without it. An error of
// code not_found means that no peer has it; of code unavailable, that not every one could be
// asked. An error of sink ends the download.
func (p *Peers) Download(ctx context.Context, path, digest string, sink Sink) error {
	d := &download{Peers: p, path: path, digest: digest, sink: sink, sum: sha256.New(), out: map[string]bool{}, by: map[string]bool{}}
	var last error
	for _, limit := range []limits{{min(p.idle, answerMax), rateMin}, {p.idle, 1}} { // the second time, slow is better than nothing
		for _, peer := range p.orderFor(path) {
			if d.out[peer.ID] {
				continue
			}
			err := d.from(ctx, peer, limit)
			switch {
			case err == nil:
				return nil
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case d.sinkErr != nil:
				return d.sinkErr
			case errors.Is(err, errNotThere):
				d.out[peer.ID] = true
			default:
				last = err
			}
		}
	}
	return p.nowhere(path, last)
}

// limits is what a peer must keep.
type limits struct {
	answer time.Duration // until the first byte
	floor  int64         // bytes in each idle time
}

// download is one call of Download.
type download struct {
	*Peers
	path, digest string
	sink         Sink
	sinkErr      error

	size int64 // bytes, known once got > 0
	got  atomic.Int64
	sum  hash.Hash
	by   map[string]bool // the peers whose bytes are in sum
	out  map[string]bool // the peers that are of no use for this digest
	// alone forbids to go on where another peer stopped: together they were wrong, and nobody
	// knows who.
	alone bool
}

// from takes what is missing from one peer.
func (d *download) from(ctx context.Context, peer Peer, limit limits) error {
	if d.alone {
		d.restart()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	watching.Go(func() { d.watch(ctx, cancel, limit.floor) })
	unanswered := time.AfterFunc(limit.answer, func() { cancel(errStalled) })
	defer unanswered.Stop()

	byteRange := ""
	if d.got.Load() > 0 {
		byteRange = fmt.Sprintf("bytes=%d-", d.got.Load())
	}
	resp, err := d.ask(ctx, peer, http.MethodGet, d.path, byteRange)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	unanswered.Stop()
	if err := d.begin(resp); err != nil {
		return fmt.Errorf("server %s: %w", peer.ID, err)
	}
	d.by[peer.ID] = true
	if _, err := io.CopyBuffer(d, resp.Body, make([]byte, 256<<10)); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		if errors.Is(err, errStalled) {
			d.note(peer.ID, false)
		}
		return fmt.Errorf("server %s after %d of %d bytes: %w", peer.ID, d.got.Load(), d.size, err)
	}
	return d.verify(peer)
}

// watch ends a download that brings less than floor bytes in an idle time.
func (d *download) watch(ctx context.Context, cancel context.CancelCauseFunc, floor int64) {
	tick := time.NewTicker(d.idle)
	defer tick.Stop()
	last := d.got.Load()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := d.got.Load()
			if now-last < floor {
				cancel(errStalled)
				return
			}
			last = now
		}
	}
}

// begin checks that an answer goes on where the last one stopped.
func (d *download) begin(resp *http.Response) error {
	got := d.got.Load()
	if got > 0 {
		want := fmt.Sprintf("bytes %d-%d/%d", got, d.size-1, d.size)
		if resp.StatusCode != http.StatusPartialContent || resp.Header.Get("Content-Range") != want {
			return fmt.Errorf("it answers %s with %q, not with %q", resp.Status, resp.Header.Get("Content-Range"), want)
		}
		return nil
	}
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 {
		return fmt.Errorf("it answers %s without the size", resp.Status)
	}
	d.size = resp.ContentLength
	d.sinkErr = d.sink.Reset(d.size)
	return d.sinkErr
}

// Write implements io.Writer.
func (d *download) Write(p []byte) (int, error) {
	if _, err := d.sink.Write(p); err != nil {
		d.sinkErr = err
		return 0, err
	}
	d.sum.Write(p)
	d.got.Add(int64(len(p)))
	return len(p), nil
}

// verify compares the digest of what came. A peer whose bytes alone are wrong is not asked again.
func (d *download) verify(peer Peer) error {
	if "sha256:"+hex.EncodeToString(d.sum.Sum(nil)) == d.digest {
		return nil
	}
	err := fmt.Errorf("the bytes of %d servers together are not %s", len(d.by), d.digest)
	d.alone = true
	if len(d.by) == 1 {
		d.out[peer.ID] = true
		err = fmt.Errorf("server %s sent other bytes than %s", peer.ID, d.digest)
		d.blame(peer.ID, d.path)
	}
	d.restart()
	return err
}

func (d *download) restart() {
	d.got.Store(0)
	d.sum.Reset()
	clear(d.by)
}
