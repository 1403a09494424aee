package pb

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"slipway/api"
)

// received is the context of the server that a call reaches.
func received(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewIncomingContext(context.Background(), md)
}

func TestReasonTravels(t *testing.T) {
	for _, reason := range []string{"", "disk of n3 fails", "100 % sure", "Störung, Ticket #12", "%41", strings.Repeat("x", api.ReasonMax)} {
		got, err := Reason(received(WithReason(t.Context(), reason)))
		if got != reason || err != nil {
			t.Errorf("%q became %q: %v", reason, got, err)
		}
	}
	for _, bad := range []string{"two\nlines", "\x1b[2J", "a\x00b", strings.Repeat("x", api.ReasonMax+1), "\xff"} {
		if _, err := Reason(received(WithReason(t.Context(), bad))); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	for _, md := range []metadata.MD{metadata.Pairs(reasonKey, "a", reasonKey, "b"), metadata.Pairs(reasonKey, "%zz")} {
		if _, err := Reason(metadata.NewIncomingContext(t.Context(), md)); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%v: %v", md, err)
		}
	}
}
