//go:build slipway_next

package pb

// Protocol is the newest protocol between agents and servers that this program speaks; see
// raftstore/state/format_next.go.
const Protocol uint32 = 2
