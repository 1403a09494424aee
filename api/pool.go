package api

// Strategy is how a pool fills its nodes.
type Strategy string

// The strategies of a pool.
const (
	// BinPack prefers the fullest node with room, so that room stays in one piece. The default.
	BinPack Strategy = "binpack"
	// EvenOut prefers the emptiest node.
	EvenOut Strategy = "spread"
)

// Pool is what an operator says about the nodes of one name. A pool without a record has the
// defaults.
type Pool struct {
	Name     PoolName `json:"name"`
	Strategy Strategy `json:"strategy"`
}
