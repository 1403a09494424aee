package api

import (
	"errors"
	"fmt"
	"net/http"
)

// Code says what kind of failure an Error is. It maps to one gRPC status and one exit code.
type Code string

// The kinds of failure.
const (
	// CodeInvalid is a request that can never succeed as it is written.
	CodeInvalid Code = "invalid"
	// CodeNotFound names an object that does not exist.
	CodeNotFound Code = "not_found"
	// CodeConflict is a request that the present state refuses; another may succeed later.
	CodeConflict Code = "conflict"
	// CodeUnavailable is a part that does not answer now; the same call may be tried again.
	CodeUnavailable Code = "unavailable"
	// CodeNotLeader is an answer of a server that does not lead the rack.
	CodeNotLeader Code = "not_leader"
	// CodeDenied is a caller without the right to do what it asked for.
	CodeDenied Code = "denied"
	// CodeExhausted is a limit that was reached: disk, memory, size of a request.
	CodeExhausted Code = "exhausted"
	// CodeInternal is a defect of the rack.
	CodeInternal Code = "internal"
)

// Error is a failure that a user may read. Message names the object, the cause and, where
// there is one, the next step.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Err     error  `json:"-"` // the cause, for errors.Is; nil if there is none
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error with a formatted message; a %w verb becomes its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// CodeOf returns the code of the first Error in the chain of err: CodeInternal where there is
// none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// NotFound returns the error for an object that does not exist, with the nearest known name
// as a suggestion when one is close enough.
func NotFound(kind, name string, known []string) *Error {
	if near := Nearest(name, known); near != "" {
		return Errorf(CodeNotFound, "%s %q not found; did you mean %q?", kind, name, near)
	}
	return Errorf(CodeNotFound, "%s %q not found", kind, clip(name))
}

// shownMax is how much of a name an error shows, in bytes. No object has a longer name.
const shownMax = 2 * NameMax

func clip(name string) string {
	if len(name) > shownMax {
		return name[:shownMax] + "…"
	}
	return name
}

// NotFoundSee is NotFound, and names the command that lists what there is where no name is near.
func NotFoundSee(kind, name string, known []string, list string) *Error {
	if Nearest(name, known) != "" {
		return NotFound(kind, name, known)
	}
	return Errorf(CodeNotFound, "%s %q not found; list what there is: %s", kind, clip(name), list)
}

// Nearest returns the element of known with the smallest edit distance to name, or "" when
// none is within a third of its length (at least one edit).
func Nearest(name string, known []string) string {
	if len(name) > shownMax {
		return "" // the work grows with the length
	}
	best, bestDist := "", max(1, len(name)/3)+1
	for _, k := range known {
		if d := editDistance(name, k); d < bestDist {
			best, bestDist = k, d
		}
	}
	return best
}

// editDistance is the Damerau-Levenshtein distance (optimal string alignment): insertions,
// deletions, substitutions and swaps of neighbours each cost one.
func editDistance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

// HTTPStatus returns the status by which servers tell one another over HTTP of an error.
func HTTPStatus(err error) int {
	switch CodeOf(err) {
	case CodeNotFound:
		return http.StatusNotFound
	case CodeInvalid:
		return http.StatusBadRequest
	case CodeExhausted:
		return http.StatusInsufficientStorage
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
