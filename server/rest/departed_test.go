package rest

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
)

// deaf is a control API whose sessions take no input, and end with their caller only.
type deaf struct {
	stub

	full, ended chan struct{}
}

func (d *deaf) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &deafStream{ctx: ctx, rack: d}, nil
}

type deafStream struct {
	grpc.ClientStream

	ctx  context.Context //nolint:containedctx // of the stream
	rack *deaf
	sent int
}

func (s *deafStream) Context() context.Context { return s.ctx }

// SendMsg takes the command, and then nothing.
func (s *deafStream) SendMsg(any) error {
	if s.sent++; s.sent == 1 {
		return nil
	}
	close(s.rack.full)
	<-s.ctx.Done()
	return s.ctx.Err()
}

func (s *deafStream) RecvMsg(any) error {
	<-s.ctx.Done()
	close(s.rack.ended)
	return s.ctx.Err()
}

// TestUnreadInputHidesNoDeparture leaves a command that reads nothing, with input on its way.
func TestUnreadInputHidesNoDeparture(t *testing.T) {
	t.Parallel()
	d := &deaf{full: make(chan struct{}), ended: make(chan struct{})}
	server := httptest.NewTLSServer(New(Config{Conn: d, Now: time.Now, Log: slog.New(slog.DiscardHandler)}))
	defer server.Close()
	h := http.Header{"Command": {"sleep 3600"}, "Tty": {"false"}, "Origin": {server.URL}}
	(&http.Request{Header: h}).SetBasicAuth("convox", "good")
	conn, _, err := websocket.Dial(t.Context(), server.URL+"/apps/shop/processes/web/exec", &websocket.DialOptions{HTTPClient: server.Client(), HTTPHeader: h})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for range 8 { // the first waits for the command, the others for the first
		if err := conn.Write(t.Context(), websocket.MessageText, bytes.Repeat([]byte("x"), 4<<10)); err != nil {
			t.Fatal(err)
		}
	}
	<-d.full
	conn.CloseNow()
	select {
	case <-d.ended:
	case <-time.After(20 * time.Second):
		t.Error("the command runs on without its client")
	}
}
