package raftstore

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"slipway/raftstore/boltlog"
)

// cluster is a rack of servers in one process, on transports in memory.
type cluster struct {
	t       *testing.T
	dirs    map[string]string
	stores  map[string]*Store
	links   map[string]*raft.InmemTransport
	tune    func(*raft.Config)
	prepare func(id string, cfg *Config)
}

// newCluster starts servers of which each knows the others from the start.
func newCluster(t *testing.T, ids ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dirs: map[string]string{}, stores: map[string]*Store{}, links: map[string]*raft.InmemTransport{}, tune: fast}
	var all raft.Configuration
	for _, id := range ids {
		all.Servers = append(all.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	for _, id := range ids {
		c.dirs[id] = filepath.Join(t.TempDir(), "raft")
		c.link(id)
		conf := raft.DefaultConfig()
		conf.LocalID, conf.Logger = raft.ServerID(id), raftLogger(nil)
		log, snaps := c.files(id)
		if err := raft.BootstrapCluster(conf, log, log, snaps, c.links[id], all); err != nil {
			t.Fatal(err)
		}
		log.Close()
	}
	return c
}

// files opens what a server that does not run has on disk.
func (c *cluster) files(id string) (*boltlog.Log, *raft.FileSnapshotStore) {
	c.t.Helper()
	snaps, err := raft.NewFileSnapshotStoreWithLogger(c.dirs[id], snapshotsKept, raftLogger(nil))
	if err != nil {
		c.t.Fatal(err)
	}
	log, err := boltlog.Open(filepath.Join(c.dirs[id], "raft.db"))
	if err != nil {
		c.t.Fatal(err)
	}
	return log, snaps
}

// link gives a server a new transport that reaches all others.
func (c *cluster) link(id string) {
	_, l := raft.NewInmemTransport(raft.ServerAddress(id))
	for other, o := range c.links {
		if other != id {
			l.Connect(raft.ServerAddress(other), o)
			o.Connect(raft.ServerAddress(id), l)
		}
	}
	c.links[id] = l
}

// start starts servers.
func (c *cluster) start(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		c.link(id)
		cfg := Config{Dir: c.dirs[id], ID: id, Transport: c.links[id], Tune: c.tune}
		if c.prepare != nil {
			c.prepare(id, &cfg)
		}
		s, err := Open(cfg)
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { s.Close() })
		c.stores[id] = s
	}
}

// stop stops a server; the others cannot reach it any more.
func (c *cluster) stop(id string) {
	c.t.Helper()
	for other, o := range c.links {
		if other != id {
			o.Disconnect(raft.ServerAddress(id))
		}
	}
	if err := c.stores[id].Close(); err != nil {
		c.t.Fatal(err)
	}
	delete(c.stores, id)
}

// leader waits for a leader that is known to itself only.
func (c *cluster) leader() (id string) {
	c.t.Helper()
	wait(c.t, "leader", func() bool {
		for name, s := range c.stores {
			if s.IsLeader() {
				id = name
				return true
			}
		}
		return false
	})
	return id
}

// create proposes n apps to whoever leads and returns their names.
func (c *cluster) create(prefix string, n int) (names []string) {
	c.t.Helper()
	for i := range n {
		name := fmt.Sprintf("%s%d", prefix, i)
		wait(c.t, "acknowledged write", func() bool {
			r, err := c.stores[c.leader()].Propose(c.t.Context(), createApp(name))
			return err == nil && r.Err == nil
		})
		names = append(names, name)
	}
	return names
}
