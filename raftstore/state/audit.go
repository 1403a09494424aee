package state

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"slipway/api"
)

// What is kept of the events. It is bounded in every way, so that it costs a rack of a million
// processes as little as one of ten: an entry that ends a thousand processes leaves its first few.
const (
	EventsKept  = 1000 // of those that users caused, and as many of the others
	perEntryMax = 20
	messageMax  = 1000 // bytes of the message of one
)

// keepEvents stores the events of an entry that was applied: all that a user caused, and of what
// the rack and its machines did everything but what became of single processes.
func (c *change) keepEvents() {
	t := &c.history
	if byUser(c.actor) {
		t = &c.audit
	}
	kept := 0
	for i := range c.res.Events {
		if t == &c.history && strings.HasPrefix(c.res.Events[i].Type, "process.") {
			continue // a plan has many thousands of them
		}
		if kept == perEntryMax {
			return
		}
		kept++
		e := c.res.Events[i]
		e.Message = cut(e.Message)
		c.lastEvent++
		put(c, t, eventKey(c.lastEvent), &e)
		if oldest, ok := (*t).first(); ok && (*t).len() > EventsKept {
			drop(c, t, oldest)
		}
	}
}

// cut shortens a message to whole characters.
func cut(text string) string {
	if len(text) <= messageMax {
		return text
	}
	return strings.ToValidUTF8(text[:messageMax], "") + "…"
}

// eventKey sorts events by when they happened.
func eventKey(number uint64) string { return fmt.Sprintf("%016x", number) }

// byUser tells users from the rack and from its machines, which are called "node/<id>".
func byUser(actor string) bool {
	return actor != "" && actor != "rack" && !strings.Contains(actor, "/")
}

// restoreEvent enters an event of a snapshot.
func (c *change) restoreEvent(t **table[*api.Event], rec snapshotRecord) error {
	number, err := strconv.ParseUint(rec.Key, 16, 64)
	if err != nil {
		return err
	}
	c.lastEvent = max(c.lastEvent, number)
	return restore(rec, func(e api.Event) { put(c, t, rec.Key, &e) })
}

// Events returns the events that are kept, oldest first: the last EventsKept that users caused,
// and as many of those that they did not.
func (v *View) Events() []*api.Event {
	all := make([]record[*api.Event], 0, v.audit.len()+v.history.len())
	for _, t := range []*table[*api.Event]{v.audit, v.history} {
		for key, e := range t.all("") {
			all = append(all, record[*api.Event]{key, e})
		}
	}
	slices.SortFunc(all, func(a, b record[*api.Event]) int { return strings.Compare(a.key, b.key) })
	out := make([]*api.Event, len(all))
	for i := range all {
		out[i] = all[i].value
	}
	return out
}
