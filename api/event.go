package api

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Event tells that something happened to an object. Events are a stream for people and other
// systems; no decision is ever taken from one. Those of what users did, and of what became of
// apps, nodes and the rack, are kept for a while; those of processes pass by.
type Event struct {
	Index   uint64    `json:"index"` // of the command that caused it; several may share one
	At      time.Time `json:"at"`
	Type    string    `json:"type"` // "app.created", "process.running", "deployment.failed", …
	App     AppName   `json:"app,omitempty"`
	Object  string    `json:"object"` // the ID or name
	Actor   string    `json:"actor,omitempty"`
	Message string    `json:"message,omitempty"`
	// Reason is why, in the words of the actor.
	Reason string `json:"reason,omitempty"`
}

// EventsLost is the type of an event that tells a reader that others may be missing before the next
// one. Whoever keeps something up to date by events has to look at the present state again.
const EventsLost = "events.lost"

// ReasonMax bounds Event.Reason, in bytes.
const ReasonMax = 500

// CheckReason reports why a text cannot be the reason of a change, or nil.
func CheckReason(text string) error {
	switch {
	case len(text) > ReasonMax:
		return Errorf(CodeInvalid, "the reason is %d bytes long, the limit is %d; say it shorter", len(text), ReasonMax)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return Errorf(CodeInvalid, "the reason %.80q holds what cannot be printed; write it as one line of text", text)
	}
	return nil
}

// LogLine is one line that a process, or the rack on behalf of one, wrote.
type LogLine struct {
	At      time.Time   `json:"at"`
	App     AppName     `json:"app"`
	Service ServiceName `json:"service"`
	Process ProcessID   `json:"process"`
	Stream  string      `json:"stream"` // stdout, stderr, system
	Text    string      `json:"text"`   // without the newline
	// Dropped counts lines lost before this one because the reader was too slow.
	Dropped int `json:"dropped,omitempty"`
	// Seq orders the lines of one process.
	Seq uint64 `json:"seq,omitempty"`
}

// Log names the log that the line is in: that of what its process wrote, or that of what the
// rack says about the process. Each has its own Seq.
func (l *LogLine) Log() string { return LogName(l.Process, l.Stream == "system") }

// LogName names one of the two logs of a process.
func LogName(id ProcessID, system bool) string {
	if system {
		return string(id) + "/system"
	}
	return string(id) + "/out"
}

// LogMark is a line that was read: the next one comes after it.
type LogMark struct {
	At  time.Time `json:"at"`
	Seq uint64    `json:"seq"`
}

// LogQuery selects lines.
type LogQuery struct {
	App      AppName     `json:"app"`
	Service  ServiceName `json:"service,omitempty"`
	Process  ProcessID   `json:"process,omitempty"`
	Since    time.Time   `json:"since,omitzero"`
	Filter   string      `json:"filter,omitempty"` // a substring
	Follow   bool        `json:"follow,omitempty"`
	Previous bool        `json:"previous,omitempty"` // also processes that have ended
	// After has, by the name of a log, the last line that the reader knows already.
	After map[string]LogMark `json:"after,omitempty"`
}
