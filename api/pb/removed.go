package pb

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// removed is the code of a Failure that goes along with the refusal of a node that was removed.
const removed = "removed"

// Removed is the refusal of a node that was removed. Its agent can tell it from any other, and ends
// what it runs: others have taken the place of that.
func Removed(message string) error {
	s := status.New(codes.Unauthenticated, message)
	if detailed, err := s.WithDetails(&Failure{Code: removed, Message: message}); err == nil {
		s = detailed
	}
	return s.Err()
}

// IsRemoved reports whether an error is what Removed made.
func IsRemoved(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if f, ok := detail.(*Failure); ok && f.GetCode() == removed {
			return true
		}
	}
	return false
}
