package pb

import (
	"context"
	"net/url"

	"google.golang.org/grpc/metadata"

	"slipway/api"
)

// reasonKey is the metadata in which a caller says why it changes something: text, with what is
// not printable ASCII escaped as in a URL.
const reasonKey = "slipway-reason"

// WithReason returns a context whose calls say why; "" says nothing.
func WithReason(ctx context.Context, reason string) context.Context {
	if reason == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, reasonKey, url.PathEscape(reason))
}

// Reason returns why a caller says it calls; "" if it does not say.
func Reason(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, reasonKey)
	if len(values) == 0 {
		return "", nil
	}
	reason, err := url.PathUnescape(values[0])
	if err != nil || len(values) > 1 {
		return "", api.Errorf(api.CodeInvalid, "the metadata %s takes one text, escaped as in a URL", reasonKey)
	}
	return reason, api.CheckReason(reason)
}
