package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"slipway/api"
	"slipway/raftstore/state"
)

// cheap makes trying a passphrase quick, for tests that try many.
var cheap = kdf{passes: 1, memory: 64, lanes: 1}

var extra = map[string][]byte{"keyring.json": []byte("keys"), "ca/ca.crt": []byte("certificate"), "empty": {}}

func encoded(t *testing.T, v *state.View) string {
	t.Helper()
	var b bytes.Buffer
	if err := v.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// backupFile makes a rack with some apps and a backup of it.
func backupFile(t *testing.T) (file string, s *Store) {
	t.Helper()
	s = open(t, filepath.Join(t.TempDir(), "raft"), true)
	for i := range 30 {
		if _, err := s.Propose(t.Context(), createApp(fmt.Sprintf("a%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(t.TempDir(), "rack.backup")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.Backup(t.Context(), f, "correct horse", extra); err != nil {
		t.Fatal(err)
	}
	return file, s
}

func TestARackComesBackFromItsBackup(t *testing.T) {
	file, s := backupFile(t)
	want, index := encoded(t, s.View()), s.View().Index()
	old, err := Epoch(s.cfg.Dir)
	if err != nil || old == "" {
		t.Fatalf("the epoch of the old rack is %q, %v", old, err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	cfg := RestoreConfig{Dir: dir, File: file, Passphrase: "correct horse", Self: Member{"s9", "127.0.0.1:1"}, Files: map[string][]byte{"server.id": []byte("s9")}}
	info, err := RestoreDir(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !info.Confirmed || info.Index != index || info.Server != "s1" || info.Epoch != old {
		t.Errorf("the backup says of itself %+v", info)
	}
	for path, content := range extra {
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s is %q, %v", path, got, err)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "server.id")); string(got) != "s9" {
		t.Errorf("server.id is %q", got)
	}
	epoch, err := Epoch(filepath.Join(dir, RaftDir))
	if err != nil || epoch == old || !NewerEpoch(epoch, old) {
		t.Errorf("the epoch is %q after %q, %v", epoch, old, err)
	}
	r, err := Open(Config{Dir: filepath.Join(dir, RaftDir), ID: "s9", Addr: "127.0.0.1:0", Tune: fast})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wait(t, "leadership", r.IsLeader)
	if diff := cmp.Diff(want, encoded(t, r.View())); diff != "" {
		t.Errorf("the restored state:\n%s", diff)
	}
	if res, err := r.Propose(t.Context(), createApp("later")); err != nil || res.Err != nil || r.Servers() != 1 {
		t.Errorf("a write after the restore: %v, %v; %d servers", err, res.Err, r.Servers())
	}
	if res, err := r.Propose(t.Context(), createApp("a3")); err != nil || !res.Duplicate {
		t.Errorf("a request that the old rack had answered: %+v, %v", res, err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	file, _ := backupFile(t)
	used := t.TempDir()
	if err := os.WriteFile(filepath.Join(used, "keyring.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, bytes.Repeat([]byte("not a backup at all. "), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir, file, passphrase string
		code                  api.Code
		words                 string
	}{
		"a directory in use": {used, file, "correct horse", api.CodeConflict, "keyring.json"},
		"a wrong passphrase": {"", file, "wrong horse", api.CodeDenied, "passphrase"},
		"another file":       {"", other, "correct horse", api.CodeInvalid, "not a backup"},
		"a missing file":     {"", file + "x", "correct horse", api.CodeInternal, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			if c.dir == "" {
				c.dir = filepath.Join(parent, "new")
			}
			_, err := RestoreDir(RestoreConfig{Dir: c.dir, File: c.file, Passphrase: c.passphrase, Self: Member{"s9", "a:1"}})
			if api.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v (%s), want %q (%s)", err, api.CodeOf(err), c.words, c.code)
			}
			if left, _ := os.ReadDir(parent); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func TestBackupRefuses(t *testing.T) {
	s := open(t, t.TempDir(), true)
	for _, path := range []string{"../keyring.json", "/etc/passwd", "", ".", "raft", "raft/raft.db", "a//b", "a\x00"} {
		if err := s.Backup(t.Context(), io.Discard, "x", map[string][]byte{path: nil}); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("file %q: %v", path, err)
		}
	}
	if err := s.Backup(t.Context(), io.Discard, "", nil); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("no passphrase: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the caller is gone")
	cancel(gone)
	if err := s.Backup(ctx, io.Discard, "x", nil); !errors.Is(err, gone) {
		t.Errorf("a caller that is gone: %v", err)
	}
}

func TestAFollowerSaysThatItsBackupIsNotConfirmed(t *testing.T) {
	c := newCluster(t, "s1", "s2", "s3")
	c.start("s1", "s2", "s3")
	c.create("a", 3)
	wait(t, "backup of each server, of which the leader's is confirmed", func() bool { // leaders may change meanwhile
		leader, confirmed := c.leader(), map[string]bool{}
		for id, s := range c.stores {
			var b bytes.Buffer
			if err := s.Backup(t.Context(), &b, "x", nil); err != nil {
				t.Fatal(err)
			}
			info, err := readBackup(&b, "x", discard)
			if err != nil || info.Server != id {
				t.Fatalf("%s: %+v, %v", id, info, err)
			}
			if info.Confirmed {
				confirmed[id] = true
			}
		}
		return len(confirmed) == 1 && confirmed[leader]
	})
}

// TestABackupIsStreamed has a reader that takes the first part of a large state and goes away: the
// rest is not made.
func TestABackupIsStreamed(t *testing.T) {
	s := state.New()
	for i := range 50 {
		var entries []state.Entry
		for j := range 400 {
			entries = append(entries, createApp(fmt.Sprintf("a%d-%d", i, j)))
		}
		s.ApplyAll(uint64(i+1), entries)
	}
	whole := len(encoded(t, s.View()))
	gone := errors.New("the reader is gone")
	taken := 0
	err := writeBackup(t.Context(), writerFunc(func(p []byte) (int, error) {
		if taken += len(p); taken > 3*chunkSize {
			return 0, gone
		}
		return len(p), nil
	}), "pass", cheap, BackupInfo{}, nil, s.View())
	if !errors.Is(err, gone) || taken > 5*chunkSize || whole < 20*chunkSize {
		t.Errorf("%v after %d bytes of %d", err, taken, whole)
	}
}

var discard = contents{
	file:  func(string, []byte) error { return nil },
	state: func(_ BackupInfo, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err },
}

// sample is a small sealed backup of several chunks.
func sample(t testing.TB) []byte {
	t.Helper()
	s := state.New()
	var entries []state.Entry
	for i := range 900 {
		entries = append(entries, createApp(fmt.Sprintf("app-%d", i)))
	}
	s.ApplyAll(7, entries)
	var b bytes.Buffer
	info := BackupInfo{Rack: "r", Epoch: NewEpoch(""), Index: s.View().Index(), Term: 2, Files: []string{"keyring.json"}}
	if err := writeBackup(t.Context(), &b, "pass", cheap, info, map[string][]byte{"keyring.json": bytes.Repeat([]byte("k"), 100)}, s.View()); err != nil {
		t.Fatal(err)
	}
	if b.Len() < 2*chunkSize {
		t.Fatalf("the sample has %d bytes, less than two chunks", b.Len())
	}
	return b.Bytes()
}

// TestEveryDamageIsRefused flips bits, cuts, adds, moves and repeats bytes of a backup.
func TestEveryDamageIsRefused(t *testing.T) {
	good := sample(t)
	if _, err := readBackup(bytes.NewReader(good), "pass", discard); err != nil {
		t.Fatalf("the backup as it was written: %v", err)
	}
	refuse := func(t interface{ Errorf(string, ...any) }, what string, b []byte) {
		if _, err := readBackup(bytes.NewReader(b), "pass", discard); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	sealed := chunkSize + 16
	for at := range headSize + 40 { // every byte of the head
		b := bytes.Clone(good)
		b[at] ^= 1
		refuse(t, fmt.Sprintf("a flip at %d", at), b)
	}
	for _, at := range []int{0, 1, headSize - 1, headSize, headSize + sealed - 1, headSize + sealed, headSize + 2*sealed, len(good) - 1} {
		refuse(t, fmt.Sprintf("the file cut at %d", at), good[:at])
	}
	swapped := bytes.Clone(good)
	copy(swapped[headSize:], good[headSize+sealed:headSize+2*sealed])
	copy(swapped[headSize+sealed:], good[headSize:headSize+sealed])
	refuse(t, "a file with two chunks swapped", swapped)
	refuse(t, "a file with a chunk left out", append(bytes.Clone(good[:headSize]), good[headSize+sealed:]...))
	refuse(t, "a file with a byte added", append(bytes.Clone(good), 0))
	rapid.Check(t, func(t *rapid.T) {
		b := bytes.Clone(good)
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "cut") {
			refuse(t, fmt.Sprintf("the file cut at %d", at), b[:at])
			return
		}
		b[at] ^= rapid.ByteMin(1).Draw(t, "flip")
		refuse(t, fmt.Sprintf("a flip at %d", at), b)
	})
}

// FuzzBackup patches a backup and cuts or extends it: no panic, and nothing but what was written
// is taken.
func FuzzBackup(f *testing.F) {
	good := sample(f)
	f.Add(uint(0), []byte("slipway"), uint(len(good)))
	f.Add(uint(len(sealMagic)), []byte{sealVersion + 1}, uint(len(good)))
	f.Add(uint(len(sealMagic)+1), []byte{255, 255, 255}, uint(len(good)))
	f.Add(uint(headSize), []byte{}, uint(headSize+chunkSize+16))
	f.Add(uint(len(good)), []byte("more"), uint(len(good)+4))
	f.Fuzz(func(t *testing.T, at uint, patch []byte, size uint) {
		b := make([]byte, min(size, uint(len(good))+1000))
		copy(b, good)
		if at < uint(len(b)) {
			copy(b[at:], patch)
		}
		if len(b) > bareHead {
			copy(b[len(sealMagic)+1:len(sealMagic)+7], good[len(sealMagic)+1:]) // stays cheap to try
		}
		if _, err := readBackup(bytes.NewReader(b), "pass", discard); (err == nil) != bytes.Equal(b, good) {
			t.Errorf("%d bytes of which %d are as written: %v", len(b), len(good), err)
		}
	})
}
