package raftstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A follower that is cut off until the others have thrown away what it lacks catches up by a
// snapshot. Who follows it learns that something may be missing, and gets the events that are kept.
func TestASnapshotLeavesNoSilentGap(t *testing.T) {
	c := newCluster(t, "s1", "s2", "s3")
	c.tune = func(conf *raft.Config) {
		fast(conf)
		conf.TrailingLogs = 0
	}
	c.start("s1", "s2", "s3")
	c.create("a", 3)
	lead := c.leader()
	var behind string
	for id := range c.stores {
		if id != lead {
			behind = id
		}
	}
	s := c.stores[behind]
	wait(t, "the first apps on the follower", func() bool { return len(apps(s)) == 3 })
	_, updates := s.Subscribe(t.Context())

	for other, link := range c.links {
		if other != behind {
			link.Disconnect(raft.ServerAddress(behind))
			c.links[behind].Disconnect(raft.ServerAddress(other))
		}
	}
	delete(c.stores, behind)
	missed := c.create("b", 5)
	for _, other := range c.stores {
		if err := other.Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
	for other, link := range c.links {
		if other != behind {
			link.Connect(raft.ServerAddress(behind), c.links[behind])
			c.links[behind].Connect(raft.ServerAddress(other), link)
		}
	}
	c.stores[behind] = s
	after := c.create("c", 1)

	var got []string
	gaps, all := 0, false
	want := append(missed, after...)
	for deadline := time.After(20 * time.Second); len(got) < len(want); {
		select {
		case u := <-updates:
			if u.Gap {
				gaps++
				all = all || u.Changes.All
			}
			for i := range u.Events {
				if e := &u.Events[i]; e.Type == "app.created" {
					if gaps == 0 {
						t.Errorf("event %s came without a mark", e.Object)
					}
					got = append(got, e.Object)
				}
			}
		case <-deadline:
			t.Fatalf("events %q, %d gaps; the follower has %q, want %q", got, gaps, apps(s), want)
		}
	}
	if gaps != 1 || !all || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d gaps, everything changed: %v; events %q, want %q", gaps, all, got, want)
	}
	if have := apps(s); len(have) != 9 {
		t.Errorf("apps %q", have)
	}
}
