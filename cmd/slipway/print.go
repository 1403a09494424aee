package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// print writes a document with --json, or else calls people.
func (s *shell) print(doc any, people func() error) error {
	if s.json {
		return s.document(doc)
	}
	return people()
}

// document writes one document to standard output.
func (s *shell) document(doc any) error {
	return s.encode(doc, "  ")
}

// row writes one document on one line, for streams of them.
func (s *shell) row(doc any) error {
	err := s.encode(doc, "")
	s.told = false // there may be more
	return err
}

// encode writes a document. What could control a terminal is escaped; JSON itself does so for
// some of it only.
func (s *shell) encode(doc any, indent string) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(doc); err != nil {
		return err
	}
	s.told = true
	var b strings.Builder
	for _, r := range text.String() {
		if r != '\n' && controls(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
			continue
		}
		b.WriteRune(r)
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

// table writes rows under a head, two spaces apart, the last column not padded.
func (s *shell) table(head []string, rows [][]string) error {
	all := append([][]string{head}, rows...)
	widths := make([]int, len(head))
	for _, row := range all {
		for i := range row {
			row[i] = oneLine(row[i])
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	var b strings.Builder
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

// block writes pairs of names and values, one per line; empty values are left out.
func (s *shell) block(pairs ...string) error {
	var rows [][]string
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			rows = append(rows, pairs[i:i+2])
			width = max(width, len(pairs[i]))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-*s  %s\n", width, r[0], strings.ReplaceAll(clean(r[1]), "\n", "\n"+strings.Repeat(" ", width+2)))
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

// progress is where steps are told: with --json and --id, standard output is for the answer.
func (s *shell) progress() io.Writer {
	if s.json || s.quiet {
		return s.err
	}
	return s.out
}

// say tells one line of progress.
func (s *shell) say(format string, args ...any) { fmt.Fprintf(s.progress(), format+"\n", args...) }

// step tells what is done while it is done: "Doing x... OK, detail".
func (s *shell) step(what string, do func() (string, error)) error {
	fmt.Fprintf(s.progress(), "%s... ", what)
	detail, err := do()
	switch {
	case err != nil:
		fmt.Fprintln(s.progress(), "FAILED")
	case detail != "":
		fmt.Fprintf(s.progress(), "OK, %s\n", detail)
	default:
		fmt.Fprintln(s.progress(), "OK")
	}
	return err
}

// ago says how long ago t was: "2 minutes ago"; "" for never.
func (s *shell) ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := s.now().Sub(t)
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return count(int(d/time.Second), "second") + " ago"
	case d < time.Hour:
		return count(int(d/time.Minute), "minute") + " ago"
	case d < 24*time.Hour:
		return count(int(d/time.Hour), "hour") + " ago"
	}
	return count(int(d/(24*time.Hour)), "day") + " ago"
}

// count says how many: "1 file", "2 files".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// took says how long something lasted: "4.1 s", "2 m 5 s".
func took(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d m %d s", int(d.Minutes()), int(d.Seconds())%60)
}

// elapsed is the time between two moments; "" when either is missing.
func elapsed(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return ""
	}
	return took(to.Sub(from))
}

// escapes matches what a terminal takes for a command: CSI, OSC and the shorter sequences.
var escapes = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[ -/]*[0-~])")

// clean takes everything out of a text that could control a terminal, but tabs and newlines.
func clean(text string) string {
	text = escapes.ReplaceAllString(text, "")
	return strings.Map(func(r rune) rune {
		if r != '\t' && r != '\n' && (controls(r) || r == utf8.RuneError) {
			return -1
		}
		return r
	}, text)
}

// controls reports whether a character does something to a terminal beside being shown.
func controls(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// oneLine is clean for a text that must not begin a line of its own.
func oneLine(text string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(clean(text))
}
