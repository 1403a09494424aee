package auth

import "context"

// Administers reports whether the caller may change the rack.
func Administers(ctx context.Context) bool {
	i, ok := Caller(ctx)
	return ok && i.Can(RightAdmin)
}
