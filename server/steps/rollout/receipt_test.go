package rollout

import (
	"fmt"
	"testing"

	"slipway/api"
)

// TestShorten: a receipt lists no more than it may, and counts the others.
func TestShorten(t *testing.T) {
	for name, c := range map[string]struct{ have, services, keep int }{
		"few":                {10, 3, 10},
		"many of one":        {5000, 1, api.ReceiptMax / 2},
		"many of ten":        {5000, 10, api.ReceiptMax / 20},
		"one of each, never": {3, 10 * api.ReceiptMax, 1},
		"none":               {0, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var list []api.ProcessReceipt
			for i := range c.have {
				list = append(list, api.ProcessReceipt{Process: api.ProcessID(fmt.Sprint("p", i))})
			}
			if more := shorten(&list, c.services); len(list) != c.keep || more != c.have-c.keep {
				t.Errorf("%d are listed and %d more, want %d of %d", len(list), more, c.keep, c.have)
			}
		})
	}
}
