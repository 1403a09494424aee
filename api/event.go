package api

import "time"

// Event tells that something happened to an object. Events are a stream for people and other
// systems; no decision is ever taken from one.
type Event struct {
	Index   uint64    `json:"index"` // of the command that caused it; several may share one
	At      time.Time `json:"at"`
	Type    string    `json:"type"` // "app.created", "process.running", "deployment.failed", …
	App     AppName   `json:"app,omitempty"`
	Object  string    `json:"object"` // the ID or name
	Actor   string    `json:"actor,omitempty"`
	Message string    `json:"message,omitempty"`
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

// LogQuery selects lines.
type LogQuery struct {
	App      AppName     `json:"app"`
	Service  ServiceName `json:"service,omitempty"`
	Process  ProcessID   `json:"process,omitempty"`
	Since    time.Time   `json:"since,omitzero"`
	Filter   string      `json:"filter,omitempty"` // a substring
	Follow   bool        `json:"follow,omitempty"`
	Previous bool        `json:"previous,omitempty"` // also processes that have ended
}
