package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"slipway/api"
	rackapi "slipway/api/client"
)

// follower follows the events of the rack that are kept, and goes on where it was when a stream ends.
type follower struct {
	mu     sync.Mutex
	told   []string // all events in their order
	named  map[string]bool
	index  uint64 // of the last event
	at     int    // how many events of that index it was told
	again  int    // how many of them the present stream has still to repeat
	broken []string
}

func newFollower() *follower { return &follower{named: map[string]bool{}, index: 1} }

func (f *follower) follow(ctx context.Context, c *rackapi.Client) {
	defer c.Close()
	for ctx.Err() == nil {
		// The error says why the stream ended; the next one goes on after it.
		_ = c.Events(ctx, rackapi.EventQuery{After: f.resume(), Last: 1000}, func(e api.Event) error {
			f.see(e)
			return ctx.Err()
		})
	}
}

// resume returns after which index the next stream has to begin. It tells the events of the last
// index again: the stream before may have ended between two of them.
func (f *follower) resume() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.again = f.at
	return f.index - 1
}

func (f *follower) see(e api.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := fmt.Sprint(e.Index, " ", e.Type, " ", e.App, " ", e.Object, " ", e.Message)
	switch {
	case e.Type == "events.lost":
		f.broken = append(f.broken, e.Message)
		return
	case strings.HasPrefix(e.Type, "process."): // whoever comes later is not told these
		return
	case e.Index < f.index:
		f.broken = append(f.broken, fmt.Sprintf("%q comes after index %d", text, f.index))
		return
	case e.Index == f.index && f.again > 0:
		if before := f.told[len(f.told)-f.again]; before != text {
			f.broken = append(f.broken, fmt.Sprintf("%q was %q before", text, before))
		}
		f.again--
		return
	case e.Index == f.index:
		f.at++
	case f.again > 0:
		f.broken = append(f.broken, fmt.Sprintf("%q comes, and %d of index %d are not repeated", text, f.again, f.index))
		f.index, f.at, f.again = e.Index, 1, 0
	default:
		f.index, f.at = e.Index, 1
	}
	f.told = append(f.told, text)
	f.named[nameOf(e)] = true
}

// nameOf is what history.events calls an event.
func nameOf(e api.Event) string {
	switch e.Type {
	case "release.created":
		_, variable, _ := strings.Cut(e.Message, "add:")
		return fmt.Sprint(e.Type, " ", e.App, " ", variable)
	}
	return fmt.Sprint(e.Type, " ", e.Object)
}

// missing names the first event of a list that was not told yet.
func (f *follower) missing(want []string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range want {
		if !f.named[w] {
			return fmt.Sprintf("%s was not told; the last of %d is %s", w, len(f.told), f.told[max(0, len(f.told)-1):]), false
		}
	}
	return "", true
}

// compare returns what is wrong with what the followers of one rack were told up to an index: all
// have to be told the same, in the same order.
func compare(followers []*follower, upTo uint64) (broken []string) {
	var lists [][]string
	for i, f := range followers {
		f.mu.Lock()
		for _, b := range f.broken {
			broken = append(broken, fmt.Sprintf("follower %d: %s", i, b))
		}
		var told []string
		for _, text := range f.told {
			var index uint64
			if _, err := fmt.Sscan(text, &index); err != nil || index > upTo {
				break
			}
			told = append(told, text)
		}
		lists = append(lists, told)
		f.mu.Unlock()
	}
	for i, list := range lists[1:] {
		at := 0
		for at < min(len(list), len(lists[0])) && list[at] == lists[0][at] {
			at++
		}
		if at < max(len(list), len(lists[0])) {
			broken = append(broken, fmt.Sprintf("followers 0 and %d were told %d and %d events; they differ from number %d on:\n%q\n%q",
				i+1, len(lists[0]), len(list), at, rest(lists[0], at), rest(list, at)))
		}
	}
	return broken
}

func rest(list []string, at int) []string { return list[min(at, len(list)):min(at+3, len(list))] }

// level returns the index that all followers have come to.
func level(followers []*follower) uint64 {
	var at []uint64
	for _, f := range followers {
		f.mu.Lock()
		at = append(at, f.index)
		f.mu.Unlock()
	}
	return slices.Min(at)
}

// TestAFollowerSeesWhatIsWrong gives followers streams that no rack may send.
func TestAFollowerSeesWhatIsWrong(t *testing.T) {
	event := func(index uint64, object string) api.Event {
		return api.Event{Index: index, Type: "app.created", Object: object}
	}
	good := []api.Event{event(2, "a"), event(3, "b"), event(3, "c"), event(5, "d")}
	process := api.Event{Index: 3, Type: "process.assigned", Object: "p"}
	run := func(streams ...[]api.Event) *follower {
		f := newFollower()
		for _, s := range streams {
			f.resume()
			for _, e := range s {
				f.see(e)
			}
		}
		return f
	}
	for name, c := range map[string]struct {
		streams [][]api.Event
		ok      bool
	}{
		"all":              {[][]api.Event{good}, true},
		"cut and repeated": {[][]api.Event{good[:2], good[1:]}, true},
		"and a process":    {[][]api.Event{slices.Insert(slices.Clone(good), 2, process)}, true},
		"missing":          {[][]api.Event{{good[0], good[1], good[3]}}, false},
		"missing at a cut": {[][]api.Event{good[:2], good[3:]}, false},
		"twice":            {[][]api.Event{{good[0], good[1], good[2], good[2], good[3]}}, false},
		"backward":         {[][]api.Event{{good[0], good[3], good[1], good[2]}}, false},
		"lost":             {[][]api.Event{append([]api.Event{{Type: "events.lost"}}, good...)}, false},
	} {
		if broken := compare([]*follower{run(good), run(c.streams...)}, 5); (len(broken) == 0) != c.ok {
			t.Errorf("%s: %q", name, broken)
		}
	}
}
