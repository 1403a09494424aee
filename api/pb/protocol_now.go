//go:build !slipway_next

package pb

// Protocol is the newest protocol between agents and servers that this program speaks.
const Protocol uint32 = 1
