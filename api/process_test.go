package api

import (
	"encoding/json"
	"slices"
	"testing"
	"unsafe"
)

// TestProcessIsSmall: the allocator gives a process 512 bytes. The next size that it has is 576,
// which is 64 MB for a million of them.
func TestProcessIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Process{}); size > 512 {
		t.Errorf("a process takes %d bytes, more than 512", size)
	}
}

func TestTextsAreAnArray(t *testing.T) {
	for _, c := range []struct {
		lines []string
		doc   string
	}{
		{nil, `{"state":"exited"}`},
		{[]string{}, `{"state":"exited"}`},
		{[]string{"one", ""}, `{"state":"exited","lines":["one",""]}`},
	} {
		b, err := json.Marshal(ProcessStatus{State: StateExited, Lines: TextsOf(c.lines)})
		if err != nil || string(b) != c.doc {
			t.Errorf("%q is written as %s (%v), want %s", c.lines, b, err, c.doc)
		}
		var got ProcessStatus
		if err := json.Unmarshal([]byte(c.doc), &got); err != nil || !slices.Equal(got.Lines.All(), c.lines) {
			t.Errorf("%s is read as %q (%v), want %q", c.doc, got.Lines.All(), err, c.lines)
		}
	}
	var got ProcessStatus
	if err := json.Unmarshal([]byte(`{"sockets":null,"lines":[]}`), &got); err != nil || !got.Sockets.IsZero() || !got.Lines.IsZero() {
		t.Errorf("null and an empty array are read as %+v (%v)", got, err)
	}
}
