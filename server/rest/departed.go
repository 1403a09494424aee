package rest

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"time"
)

// lookEvery is the pause between two looks at whether a client is still there.
const lookEvery = time.Second

// taken notes the connection that a websocket takes over.
type taken struct {
	http.ResponseWriter

	conn net.Conn
}

// Hijack implements http.Hijacker.
func (t *taken) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	t.conn = conn
	return conn, rw, err
}

// watch ends the session of a client that closed its connection. A read would tell, but while a
// command takes no input there is none: what the client has sent last stands in between.
func watch(ctx context.Context, conn net.Conn, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if departed(conn) {
				cancel(errGone)
				return
			}
		}
	}
}
