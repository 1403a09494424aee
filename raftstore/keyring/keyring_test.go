package keyring

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

func open(t *testing.T, dir string) *Keyring {
	t.Helper()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedValuesOpenAfterRotationAndReopen(t *testing.T) {
	dir := t.TempDir()
	k := open(t, dir)
	old := k.Seal([]byte("canary"), []byte("release/R1"))
	digest := k.Digest([]byte("canary"))
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	k = open(t, dir)
	for _, sealed := range [][]byte{old, k.Seal([]byte("canary"), []byte("release/R1"))} {
		if bytes.Contains(sealed, []byte("canary")) {
			t.Error("the sealed value shows the plain one")
		}
		if plain, err := k.Open(sealed, []byte("release/R1")); err != nil || string(plain) != "canary" {
			t.Errorf("opened %q, %v", plain, err)
		}
		if _, err := k.Open(sealed, []byte("release/R2")); err == nil {
			t.Error("a value was moved to another object")
		}
	}
	if k.Digest([]byte("canary")) != digest {
		t.Error("a digest changed with the rotation")
	}
	info, err := os.Stat(filepath.Join(dir, "keyring.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
}

func TestAnyDamageIsNoticed(t *testing.T) {
	k := open(t, t.TempDir())
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		sealed := k.Seal(plain, nil)
		got, err := k.Open(sealed, nil)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opened %q, %v", got, err)
		}
		at := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		sealed[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := k.Open(sealed, nil); err == nil {
			t.Fatalf("a changed bit in byte %d was not noticed", at)
		}
		if _, err := k.Open(sealed[:at], nil); err == nil {
			t.Fatalf("a value cut to %d bytes was opened", at)
		}
	})
}

func TestForeignKeyringSaysSo(t *testing.T) {
	a, b := open(t, t.TempDir()), open(t, t.TempDir())
	if _, err := b.Open(a.Seal([]byte("x"), nil), nil); err == nil {
		t.Error("another rack's keyring opened the value")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "keyring.json"), []byte(`[{"id":1,"secret":"AA=="}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a short key was accepted")
	}
}
