package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	var out bytes.Buffer
	s := newShell(nil, &out, nil, nil)
	if err := s.table([]string{"ID", "STATUS", "TEXT"}, [][]string{
		{"a", "running", "short"}, {"longer", "", "a\nforged  row\tof \x1b[2Jnoise"}, {"ö", "ok", ""},
	}); err != nil {
		t.Fatal(err)
	}
	want := "ID      STATUS   TEXT\na       running  short\nlonger           a forged  row of noise\nö       ok\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	if err := s.block("Name", "a", "Empty", "", "Text", "one\ntwo"); err != nil {
		t.Fatal(err)
	}
	if want := "Name  a\nText  one\n      two\n"; out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// hostile are texts that do something to a terminal.
var hostile = map[string]string{
	"colour":            "a\x1b[31mb\x1b[0m",
	"title":             "a\x1b]0;owned\ab",
	"clipboard":         "a\x1b]52;c;ZXZpbA==\x1b\\b",
	"title without end": "a\x1b]0;ownedb",
	"clear":             "a\x1bc\x1b[2J\x1b[Hb",
	"device control":    "a\x1bP+q544e\x1b\\b",
	"bell":              "a\ab",
	"return":            "forged\ra b",
	"backspace":         "forged\b\b\b\b\b\ba b",
	"8 bit":             "a\u009b31mb\u009d0;owned\u009cb",
	"invalid UTF-8":     "a\x9b31m\xff\xfeb",
	"direction":         "a\u202egnp.exe\u2066b\u200fb",
	"null":              "a\x00b",
	"delete":            "a\x7fb",
	"half an escape":    "a\x1b",
	"nested escape":     "a\x1b\x1b[31m[31mb",
}

func TestCleanLeavesNothingThatControlsATerminal(t *testing.T) {
	for name, text := range hostile {
		got := clean(text)
		for _, r := range got {
			if controls(r) || r == '\x1b' {
				t.Errorf("%s: %q is left of %q", name, got, text)
			}
		}
		if !strings.HasPrefix(got, "a") && !strings.HasPrefix(got, "forged") {
			t.Errorf("%s: nothing is left of %q: %q", name, text, got)
		}
	}
	for _, plain := range []string{"", "plain", "tab\tnewline\n", "ünïcödé 日本 🚀", "C:\\path [31m"} {
		if got := clean(plain); got != plain {
			t.Errorf("%q became %q", plain, got)
		}
	}
	for _, text := range []string{"a\nb", "a\tb", "a\r\nb"} {
		if got := oneLine(text); strings.ContainsAny(got, "\r\n\t") {
			t.Errorf("one line of %q: %q", text, got)
		}
	}
}

// Documents keep every character, and print none that a terminal would obey.
func TestDocumentsAreHarmless(t *testing.T) {
	for name, text := range hostile {
		var out bytes.Buffer
		s := newShell(nil, &out, nil, nil)
		if err := s.row(map[string]string{"text": text}); err != nil {
			t.Fatal(err)
		}
		for _, r := range strings.TrimSuffix(out.String(), "\n") {
			if controls(r) {
				t.Errorf("%s: %q is in the document %q", name, r, out.String())
			}
		}
		var doc map[string]string
		if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
			t.Errorf("%s: %q: %v", name, out.String(), err)
		}
		if want := strings.ToValidUTF8(text, "\ufffd"); len(doc["text"]) < len(want)-2 {
			t.Errorf("%s: %q became %q", name, text, doc["text"])
		}
	}
}

func TestAgo(t *testing.T) {
	s := newShell(nil, nil, nil, nil)
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return now }
	for d, want := range map[time.Duration]string{
		-time.Hour: "now", 0: "now", 999 * time.Millisecond: "now", time.Second: "1 second ago", 59 * time.Second: "59 seconds ago",
		time.Minute: "1 minute ago", 2*time.Hour - 1: "1 hour ago", 49 * time.Hour: "2 days ago",
	} {
		if got := s.ago(now.Add(-d)); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := s.ago(time.Time{}); got != "" {
		t.Errorf("never: %q", got)
	}
}

func TestMemory(t *testing.T) {
	for text, want := range map[string]int64{"512": 512 << 20, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "64k": 64 << 10, "1TB": 1 << 40, "2 g": 2 << 30} {
		if got, err := parseMemory(text); err != nil || int64(got) != want {
			t.Errorf("%q: %d %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "lots", "-1", "1e9", "NaN", "1EB", "99999999T", "1 GB GB", "0x10", "1,5G", "B"} {
		if got, err := parseMemory(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}
