package rest

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/api"
	"slipway/api/client"
)

// sinceDefault is how far logs reach back unless the client says otherwise.
const sinceDefault = 2 * time.Minute

// logParams are what a client may say of the lines that it wants.
var logParams = []param{
	{name: "Filter", in: inHeader, doc: "only lines that contain this text"},
	{name: "Follow", in: inHeader, kind: kindBool, doc: "stay for lines to come; true by default"},
	{name: "Prefix", in: inHeader, kind: kindBool, doc: "begin lines with time and process, and tell what the rack does for the app"},
	{name: "Since", in: inHeader, kind: kindDuration, doc: "how far to reach back; 2m by default"},
	{name: "Previous", in: inHeader, kind: kindBool, doc: "not needed: lines of processes that have ended are always there"},
	{name: "Maxlogrequests", in: inHeader, kind: kindNumber, doc: "not needed: there is no such bound"},
	{name: "Tail", in: inHeader, missing: true, doc: "ask with Since"},
}

// since is the moment from which lines are wanted.
func (c *call) since() time.Time { return c.now().Add(-c.duration("Since", sinceDefault)) }

func appLogs(c *call) error {
	return c.logs(api.LogQuery{App: c.app(), Service: c.service(), Process: api.ProcessID(c.text("pid"))})
}

// logs sends the lines of a query. Without prefixes, those are what processes say; with them, and of a whole app, what the rack did for the app
// is told as well: those who wait for a deployment see why it fails.
func (c *call) logs(q api.LogQuery) error {
	q.Since, q.Filter, q.Follow, q.Previous = c.since(), c.text("Filter"), c.flag("Follow", true), true
	prefix := c.flag("Prefix", false)
	out := &logWriter{to: c.socket, prefix: prefix, own: !prefix, filter: q.Filter}
	if !prefix || q.Service != "" || q.Process != "" {
		return c.rack.Logs(c, q, out.lines)
	}
	events := client.EventQuery{App: q.App, Since: q.Since, Past: !q.Follow}
	if !q.Follow {
		if err := c.rack.Events(c, events, out.keep); err != nil {
			return err
		}
		if err := c.rack.Logs(c, q, out.lines); err != nil {
			return err
		}
		return out.rest()
	}
	group, ctx := errgroup.WithContext(c)
	group.Go(func() error { return c.rack.Events(ctx, events, out.event) })
	group.Go(func() error { return c.rack.Logs(ctx, q, out.lines) })
	return group.Wait()
}

// logWriter writes lines and events as text. Events may come at the same time as lines, kept ones
// do not.
type logWriter struct {
	mu     sync.Mutex
	to     io.Writer
	prefix bool
	own    bool // only what processes say themselves
	filter string
	kept   []api.Event // not written yet, in order
}

// keep holds an event back until its time comes.
func (w *logWriter) keep(e api.Event) error {
	w.kept = append(w.kept, e)
	return nil
}

// event writes an event.
func (w *logWriter) event(e api.Event) error { return w.write(w.text(&e)) }

// text is the line of an event. Those of processes are in the log already.
func (w *logWriter) text(e *api.Event) string {
	text := eventText(ofSystem, *e)
	if strings.HasPrefix(e.Type, "process.") || !strings.Contains(text, w.filter) {
		return ""
	}
	return text
}

func (w *logWriter) write(text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := io.WriteString(w.to, text)
	return err
}

// lines writes lines, as many as there are in one message.
func (w *logWriter) lines(lines []api.LogLine) error {
	var b strings.Builder
	for i := range lines {
		for len(w.kept) > 0 && w.kept[0].At.Before(lines[i].At) {
			b.WriteString(w.text(&w.kept[0]))
			w.kept = w.kept[1:]
		}
		if !w.own || lines[i].Stream != "system" {
			b.WriteString(lineText(&lines[i], w.prefix))
		}
	}
	return w.write(b.String())
}

// rest writes the events that were kept and are younger than every line.
func (w *logWriter) rest() error {
	var b strings.Builder
	for i := range w.kept {
		b.WriteString(w.text(&w.kept[i]))
	}
	w.kept = nil
	return w.write(b.String())
}

// lineText is a line as clients of Convox show it.
func lineText(l *api.LogLine, prefix bool) string {
	text := l.Text
	if l.Dropped > 0 {
		text = fmt.Sprintf("(%d lines were lost: the reader was too slow)\n%s", l.Dropped, text)
	}
	if !prefix {
		return text + "\n"
	}
	source := fmt.Sprintf("service/%s/%s", l.Service, l.Process)
	if l.Stream == "system" {
		source = fmt.Sprintf("%s/%s", ofSystem, l.Process)
	}
	var b strings.Builder
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(&b, "%s %s %s\n", l.At.UTC().Format(time.RFC3339), source, line)
	}
	return b.String()
}
