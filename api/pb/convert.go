package pb

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway/api"
)

// Marshal turns a noun into its document. It panics on a type that has no JSON form, which is
// a defect of the type.
func Marshal(noun any) []byte {
	b, err := json.Marshal(noun)
	if err != nil {
		panic(fmt.Sprintf("marshal %T: %v", noun, err))
	}
	return b
}

// Unmarshal reads a document. Unknown fields, which a newer peer may send, are ignored.
func Unmarshal[T any](doc []byte) (T, error) {
	var v T
	if err := json.Unmarshal(doc, &v); err != nil {
		return v, api.Errorf(api.CodeInvalid, "decode %T: %w", v, err)
	}
	return v, nil
}

// Doc wraps one noun.
func Doc(noun any) *Document { return &Document{Json: Marshal(noun)} }

// Docs wraps a list of nouns.
func Docs[T any](nouns []T) *Documents {
	d := &Documents{Json: make([][]byte, len(nouns))}
	for i := range nouns {
		d.Json[i] = Marshal(nouns[i])
	}
	return d
}

// List reads a list of nouns.
func List[T any](d *Documents) ([]T, error) {
	out := make([]T, 0, len(d.GetJson()))
	for _, b := range d.GetJson() {
		v, err := Unmarshal[T](b)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

var toGRPC = map[api.Code]codes.Code{
	api.CodeInvalid:     codes.InvalidArgument,
	api.CodeNotFound:    codes.NotFound,
	api.CodeConflict:    codes.FailedPrecondition,
	api.CodeUnavailable: codes.Unavailable,
	api.CodeNotLeader:   codes.Aborted,
	api.CodeDenied:      codes.PermissionDenied,
	api.CodeExhausted:   codes.ResourceExhausted,
	api.CodeInternal:    codes.Internal,
}

// Error turns an error into the gRPC status that carries its code and message; nil stays nil.
// Only the text of an api.Error is meant for users, so that any other error says "internal
// error" and keeps its own text for the log of the caller.
func Error(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		return status.Error(toGRPC[e.Code], err.Error())
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.FromContextError(err).Err()
}

// FromError turns a gRPC status back into an api.Error; nil stays nil.
func FromError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*api.Error](err); ok {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	code := api.CodeInternal
	for c, g := range toGRPC {
		if g == s.Code() {
			code = c
		}
	}
	if s.Code() == codes.Unauthenticated {
		code = api.CodeDenied
	}
	return &api.Error{Code: code, Message: s.Message(), Err: err}
}

// LeaderKey is the trailer in which a server that does not lead the rack names the address of the
// one that does.
const LeaderKey = "slipway-leader"
