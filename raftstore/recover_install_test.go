package raftstore

import (
	"slices"
	"testing"

	"github.com/hashicorp/raft"
)

// TestAFollowerWithAnotherHistoryCatchesUp starts a server whose log goes beyond the snapshot
// that it gets, with entries that nobody else has.
func TestAFollowerWithAnotherHistoryCatchesUp(t *testing.T) {
	for name, trailing := range map[string]uint64{"entries stay behind a snapshot": 10240, "none stay": 0} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "s1", "s2", "s3")
			c.prepare = func(id string, cfg *Config) {
				cfg.Tune = func(conf *raft.Config) {
					fast(conf)
					if conf.TrailingLogs = 0; id == "s3" {
						conf.TrailingLogs = trailing
					}
				}
			}
			c.start("s1", "s2")
			c.create("a", 30)
			for _, s := range c.stores {
				if err := s.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			log, _ := c.files("s3")
			var stale []*raft.Log
			for i := uint64(2); i < 300; i++ {
				stale = append(stale, &raft.Log{Index: i, Term: 1, Type: raft.LogNoop})
			}
			if err := log.StoreLogs(stale); err != nil {
				t.Fatal(err)
			}
			log.Close()
			c.start("s3")
			c.create("b", 3)
			s1, s3 := c.stores["s1"], c.stores["s3"]
			wait(t, "the newest writes on s3", func() bool { return slices.Equal(apps(s3), apps(s1)) && len(apps(s3)) == 33 })
			c.stop("s1") // s3 is needed for every further write
			c.create("c", 3)
			wait(t, "writes that s3 was needed for", func() bool { return len(apps(s3)) == 36 })
			c.stop("s3")
			c.start("s3")
			wait(t, "the same after a restart", func() bool { return len(apps(c.stores["s3"])) == 36 })
		})
	}
}

// TestADamagedSnapshotLeavesTheLogAlone sends one that is not what its checksum says.
func TestADamagedSnapshotLeavesTheLogAlone(t *testing.T) {
	c := newCluster(t, "s1")
	log, files := c.files("s1")
	defer log.Close()
	if err := log.StoreLogs([]*raft.Log{{Index: 2, Term: 1}, {Index: 3, Term: 1}}); err != nil {
		t.Fatal(err)
	}
	sink, err := installs{files, log}.Create(1, 3, 2, raft.Configuration{}, 1, c.links["s1"])
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"{}", "\n", "this is not the checksum of what is before it"} {
		if _, err := sink.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Close(); err == nil {
		t.Error("it is taken")
	}
	if list, err := files.List(); len(list) != 0 || err != nil {
		t.Errorf("it is listed: %v, %v", list, err)
	}
	if first, _ := log.FirstIndex(); first != 1 {
		t.Errorf("the log begins at %d", first)
	}
}
