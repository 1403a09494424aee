package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway/api"
)

// refusal is an error with a status of its own.
type refusal struct {
	status  int
	message string
}

// Error returns the message.
func (r *refusal) Error() string { return r.message }

// missing is the answer to what the rack does not have.
func missing(format string, args ...any) error {
	return &refusal{http.StatusNotImplemented, fmt.Sprintf(format, args...)}
}

// statusOf returns the status that tells of an error.
func statusOf(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status
	}
	if unknownCaller(err) {
		return http.StatusUnauthorized
	}
	switch api.CodeOf(err) {
	case api.CodeInvalid:
		return http.StatusBadRequest
	case api.CodeNotFound:
		return http.StatusNotFound
	case api.CodeConflict:
		return http.StatusConflict
	case api.CodeUnavailable, api.CodeNotLeader:
		return http.StatusServiceUnavailable
	case api.CodeDenied:
		return http.StatusForbidden
	case api.CodeExhausted:
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusInternalServerError
}

// fromRack reports whether an error is an answer of the rack, and not of this package.
func fromRack(err error) bool {
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Err == nil {
		return false
	}
	_, ok = status.FromError(e.Err)
	return ok
}

// unknownCaller reports whether a call failed because nobody knows who makes it.
func unknownCaller(err error) bool {
	e, ok := errors.AsType[*api.Error](err)
	return ok && e.Err != nil && status.Code(e.Err) == codes.Unauthenticated
}

// sentence is what the caller reads of an error. Only errors of the rack are meant for users.
func sentence(err error, id string) string {
	if _, ok := errors.AsType[*refusal](err); ok {
		return err.Error()
	}
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Code == api.CodeInternal {
		return fmt.Sprintf("internal error; the log of the server tells more about request %s", id)
	}
	text := err.Error()
	// The CLI of Convox waits for these words to know that an app is gone.
	if rest, isApp := strings.CutPrefix(text, "app "); isApp && e.Code == api.CodeNotFound && strings.Contains(rest, " not found") {
		return "no such app: " + strings.Replace(rest, " not found", "", 1)
	}
	return text
}
