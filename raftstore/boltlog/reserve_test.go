package boltlog

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// TestTheLogHoldsMoreOfTheDiskThanItUses appends until the file has grown a few times.
func TestTheLogHoldsMoreOfTheDiskThanItUses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	l := open(t, path)
	sizes := map[int64]bool{}
	for i := range uint64(400) {
		if err := l.StoreLog(&raft.Log{Index: i + 1, Data: make([]byte, 64<<10)}); err != nil {
			t.Fatal(err)
		}
		l.writing.Lock()
		l.wait() // else the file may be growing at this moment
		l.writing.Unlock()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		const block = 512 // of st_blocks, whatever the file system has
		sizes[info.Size()] = true
		held := info.Sys().(*syscall.Stat_t).Blocks * block
		if held < info.Size()+reserveSize || l.Low() {
			t.Fatalf("after entry %d the file has %d bytes and holds %d, low %t", i, info.Size(), held, l.Low())
		}
	}
	if len(sizes) < 3 {
		t.Errorf("the file grew %d times only", len(sizes)-1)
	}
}
