package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// exitMark precedes the exit status of a command in the stream of its output, as clients of
	// Convox look for it.
	exitMark = "F1E49A85-0AD7-4AEF-A618-C249C6E6568D:"
	// exitUnknown is the exit status of a command whose end is not known: never 0.
	exitUnknown = 125
	// inputMax bounds one message of a client, in bytes.
	inputMax = 1 << 20
	// writeMax bounds the wait for a client that does not read.
	writeMax = time.Minute
)

// socket is an open websocket as clients of Convox speak it: text messages carry bytes, an empty
// binary one is the end of a stream. It is an io.Writer for output.
type socket struct {
	conn *websocket.Conn
	ctx  context.Context //nolint:containedctx // of the request; an io.Writer has none.
	mu   sync.Mutex
	// wrote: there was output, at least an attempt at it.
	wrote bool
}

// serveSocket opens a websocket and serves it. Clients show nothing of a handshake that is refused,
// so that every error after it is a line of the stream; of a command it is an exit status as well.
func (a *API) serveSocket(c *call, rt *route, failed error) error {
	over := &taken{ResponseWriter: c.w}
	conn, err := websocket.Accept(over, c.r, nil)
	if err != nil {
		a.cfg.Log.Debug("websocket refused", "request", c.id, "err", err)
		return nil // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(inputMax)
	ctx, cancel := context.WithCancelCause(c.Context)
	defer cancel(nil)
	input, feed := io.Pipe()
	defer input.Close()
	c.socket, c.Context, c.r = &socket{conn: conn, ctx: ctx}, ctx, c.r.WithContext(ctx)
	if c.input = input; rt.answer != exitStatus && rt.answer != rawBytes {
		input.Close() // nobody reads it: what comes is dropped
	}
	go c.socket.receive(feed, cancel) // ends with the connection
	go watch(ctx, over.conn, cancel)  // ends with this function
	if rt.answer == exitStatus {
		// Clients take the last status that they read, and 0 where the connection broke before one.
		c.socket.exit(exitUnknown)
	}
	if failed == nil {
		failed = rt.serve(c)
	}
	if errors.Is(context.Cause(ctx), errGone) {
		return nil
	}
	if failed != nil {
		level := a.cfg.Log.Debug
		if statusOf(failed) == http.StatusInternalServerError {
			level = a.cfg.Log.Error
		}
		level("websocket failed", "request", c.id, "path", c.r.URL.Path, "err", failed)
		if rt.answer == rawBytes && c.socket.wrote {
			return nil // a word of ours would be taken for one of the far end
		}
		fmt.Fprintf(c.socket, "ERROR: %s\n", sentence(failed, c.id))
		if rt.answer == exitStatus {
			c.socket.exit(exitUnknown)
		}
	}
	c.socket.end()
	return nil
}

// exitStatus marks routes whose stream ends with an exit status.
const exitStatus = "exit status"

// receive hands what the client sends to feed, until the connection ends.
func (s *socket) receive(feed *io.PipeWriter, cancel context.CancelCauseFunc) {
	for {
		kind, message, err := s.conn.Read(s.ctx)
		if err != nil {
			feed.CloseWithError(errGone)
			cancel(errGone)
			return
		}
		if kind == websocket.MessageBinary {
			feed.Close() // the end of the input, not of the session
			continue
		}
		feed.Write(message) // fails once nobody reads, and then there is only the end to wait for
	}
}

// Write sends output.
func (s *socket) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.send(websocket.MessageText, p); err != nil {
		return 0, errGone
	}
	return len(p), nil
}

func (s *socket) send(kind websocket.MessageType, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote = true
	ctx, cancel := context.WithTimeout(s.ctx, writeMax)
	defer cancel()
	return s.conn.Write(ctx, kind, p)
}

// exit sends an exit status, in a message of its own.
func (s *socket) exit(code int) { fmt.Fprintf(s, "%s%d\n", exitMark, code) }

// end says that there is no more, and waits a little for the client to go.
func (s *socket) end() {
	if s.send(websocket.MessageBinary, nil) == nil {
		_ = s.conn.Close(websocket.StatusNormalClosure, "") // it went first, or does not answer
	}
}
