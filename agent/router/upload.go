package router

import (
	"errors"
	"io"
	"net/http/httputil"
	"sync"
	"time"
)

// upload copies a request body that is not kept, beside the goroutine that awaits the response.
type upload struct {
	x    *exchange
	c    *conn
	done chan struct{}

	mu sync.Mutex

	finished bool
	err      error // of the client's side
	stopped  bool
}

// copy runs until the body has ended, either side fails, or stop.
func (u *upload) copy() {
	defer close(u.done)
	err := u.body()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.finished = err == nil
	if client, ok := errors.AsType[*clientError](err); ok && !u.stopped {
		u.err = client.error
		u.c.Close() // the process must not take a part for the whole
	}
}

func (u *upload) body() error {
	var w io.Writer = u.c
	chunked := u.x.r.ContentLength < 0
	if chunked {
		w = httputil.NewChunkedWriter(u.c)
	}
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	for p := (*buf)[:cap(*buf)]; ; {
		u.extend() // progress in the upload is progress for both directions
		n, err := u.x.r.Body.Read(p)
		if n > 0 {
			_ = u.c.SetDeadline(u.x.deadline())
			if _, werr := w.Write(p[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &clientError{err}
		}
	}
	u.mu.Lock()
	if !u.stopped {
		_ = u.x.control.SetReadDeadline(time.Time{})
	}
	u.mu.Unlock()
	if !chunked {
		return nil
	}
	return u.end(w.(io.Closer))
}

// extend gives the client time for the next piece, unless the exchange is over.
func (u *upload) extend() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.stopped {
		limit := u.x.deadline()
		_ = u.x.control.SetReadDeadline(limit)
		// The process cannot answer before it has the body: its time starts after the client's.
		_ = u.c.SetDeadline(limit.Add(uploadMargin))
	}
}

// end writes the last chunk and the trailer.
func (u *upload) end(chunks io.Closer) error {
	if err := chunks.Close(); err != nil {
		return err
	}
	var b []byte
	for name, values := range u.x.r.Trailer {
		if !forwards(name) {
			continue
		}
		for _, v := range values {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	_, err := u.c.Write(append(b, "\r\n"...))
	return err
}

// stop ends the copy, wherever it waits, and returns when it has ended.
func (u *upload) stop() {
	u.mu.Lock()
	u.stopped = true
	finished := u.finished
	if !finished {
		_ = u.x.control.SetReadDeadline(time.Unix(1, 0))
		u.c.Close()
	}
	u.mu.Unlock()
	<-u.done
}

// settled is complete, with a moment's patience: a process may answer between the last byte of
// the body and the copy's noticing that it was the last.
func (u *upload) settled() bool {
	timer := time.NewTimer(uploadSettle)
	defer timer.Stop()
	select {
	case <-u.done:
	case <-timer.C:
	}
	return u.complete()
}

// complete reports whether the whole body was sent.
func (u *upload) complete() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.finished
}

// clientError returns why the client's body ended early, or nil.
func (u *upload) clientError() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}
