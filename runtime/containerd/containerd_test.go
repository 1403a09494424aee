package containerd

import (
	"testing"

	"slipway/runtime/runtimetest"
)

func TestSuite(t *testing.T) {
	runtimetest.Run(t, newMachine(t).harness())
}
