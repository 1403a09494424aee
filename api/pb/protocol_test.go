package pb

import (
	"strings"
	"testing"

	"slipway/api"
)

func TestNeighboursUnderstandEachOther(t *testing.T) {
	for _, theirs := range []uint32{0, Protocol - 1, Protocol, Protocol + 1} {
		if err := CheckProtocol("node n1", theirs); err != nil {
			t.Errorf("protocol %d: %v", theirs, err)
		}
	}
	if err := CheckProtocol("node n1", Protocol+2); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "node n1 speaks protocol") || !strings.Contains(err.Error(), "upgrade slipway here first") {
		t.Errorf("two versions ahead: %v", err)
	}
}
