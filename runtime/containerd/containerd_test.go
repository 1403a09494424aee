package containerd

import (
	"testing"

	"slipway/runtime/runtimetest"
)

func TestSuite(t *testing.T) {
	h := newMachine(t).harness()
	t.Run("Run", func(t *testing.T) { runtimetest.Run(t, h) })
	t.Run("Confine", func(t *testing.T) { runtimetest.Confine(t, h) })
}
