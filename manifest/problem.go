package manifest

import (
	"fmt"
	"strings"

	"slipway/api"
)

// reportMax bounds the problems and the warnings of one manifest, each.
const reportMax = 100

// Problem is one reason why a manifest cannot be used.
type Problem struct {
	// Line counts from 1; 0 means that the problem is in no particular line.
	Line int `json:"line,omitempty"`
	// Path leads to the value: "services.web.port".
	Path string `json:"path,omitempty"`
	// Message is one sentence. It never holds a value of the environment. Where Convox has a
	// message for the case, it is that one.
	Message string `json:"message"`
	// Hint is the next step, where the message does not say it.
	Hint string `json:"hint,omitempty"`
}

// Warning is something in a manifest that works, but perhaps not as its author expects.
type Warning Problem

// hint adds the next step.
func (p *Problem) hint(next string) { p.Hint = next }

func (w *Warning) hint(next string) { w.Hint = next }

// String returns the message with its line and the next step.
func (p Problem) String() string {
	s := p.Message
	if p.Line != 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
}

// String returns the message with its line.
func (w Warning) String() string { return Problem(w).String() }

// Problems is the error of Load: everything that is wrong, in the order of the lines.
type Problems struct {
	List     []Problem `json:"errors"`
	Warnings []Warning `json:"warnings,omitempty"`
	// More counts the problems beyond the first hundred, which are not in List.
	More int `json:"more,omitempty"`
}

// Error returns "validation errors:" and one problem per line.
func (p *Problems) Error() string {
	var b strings.Builder
	b.WriteString("validation errors:")
	for _, problem := range p.List {
		b.WriteString("\n" + problem.String())
	}
	if p.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", p.More)
	}
	return b.String()
}

// Unwrap makes the error one of api.CodeInvalid.
func (p *Problems) Unwrap() error { return api.Errorf(api.CodeInvalid, "%s", p.Error()) }

// quote returns s in quotes for a message, shortened when it is long.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:most], ""))
	}
	return fmt.Sprintf("%q", s)
}
