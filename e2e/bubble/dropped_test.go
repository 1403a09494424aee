package bubble

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestDroppedExecIsNoSuccess cuts a command off in every way: its client reads a status that is not
// 0, or a connection that broke, and never an end without a status.
func TestDroppedExecIsNoSuccess(t *testing.T) {
	for name, c := range map[string]struct {
		cut  func(r *rack)
		want string // how the stream ends; "" is a broken connection
	}{
		"the process is stopped": {func(r *rack) {
			if err := r.StopProcess(r.ctx, "shop", r.processes("shop")[0].ID); err != nil {
				r.t.Fatal(err)
			}
		}, exitMark + "137\n"},
		"the node loses its power": {func(r *rack) { r.machines["n1"].powerOff() }, exitMark + "125\n"},
		"the agent ends":           {func(r *rack) { r.machines["n1"].stop() }, exitMark + "125\n"},
		"the server ends": {func(r *rack) {
			r.stopServer()
			r.stopServer = func() {}
		}, exitMark + "125\n"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			inBubble(t, []string{"n1"}, func(r *rack) {
				succeeded(r, r.deploy("shop", manifest(1, "")))
				c1 := newConvox(r)
				defer c1.http.CloseIdleConnections()
				conn := c1.enter("shop", "web", "app runs for long")
				defer conn.CloseNow()
				ended := make(chan string, 1)
				go func() {
					text, whole := readAll(r.ctx, conn)
					if !whole {
						text += " and breaks"
					}
					ended <- text
				}()
				c.cut(r)
				select {
				case text := <-ended:
					if !strings.HasSuffix(text, c.want) {
						t.Errorf("the client reads %q, want %q at its end", text, c.want)
					}
				case <-time.After(5 * time.Minute): // virtual time
					t.Error("the client waits for ever")
				}
			})
		})
	}
}

// TestAbandonedExecEnds leaves a command alone: with its client it goes.
func TestAbandonedExecEnds(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(1, "")))
		c := newConvox(r)
		defer c.http.CloseIdleConnections()
		file := filepath.Join(r.dir, "held")
		conn := c.enter("shop", "web", "app hold "+file)
		conn.CloseNow()
		r.await("end of the command", time.Minute, func() bool {
			_, err := os.Stat(file)
			return os.IsNotExist(err)
		})
	})
}

// enter begins a command in a process of a service, and waits until it runs.
func (c *convox) enter(app, service, command string) *websocket.Conn {
	c.r.t.Helper()
	_, target, h, _ := c.request(ask{row: "SOCKET /apps/" + app + "/processes/" + service + "/exec", headers: map[string]string{"Command": command}})
	req := http.Request{Header: h}
	req.SetBasicAuth("convox", c.tokens["deploy"])
	conn, _, err := c.open(target, h)
	if err != nil {
		c.r.t.Fatal(err)
	}
	for _, want := range []string{unknown, "version"} {
		if _, text, err := conn.Read(c.r.ctx); err != nil || !strings.HasPrefix(string(text), want) {
			c.r.t.Fatalf("%q comes instead of %q, %v", text, want, err)
		}
	}
	return conn
}
