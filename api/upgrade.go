package api

// Upgrade tells how far the machines of a rack are on the way from one version to the next.
type Upgrade struct {
	// Format is what the rack writes; Reads is the newest that all of its servers read. While Reads
	// is above Format the servers can go back to the version before, and what is new waits.
	Format uint32 `json:"format"`
	Reads  uint32 `json:"reads"`
	// Versions are those that machines run; of one that is not known it is "".
	Servers []Server `json:"servers"`
	Nodes   []Node   `json:"nodes"`
	// Wait says, a sentence each, why no machine should be upgraded now; empty where the next one may.
	Wait []string `json:"wait,omitempty"`
	// Next is what to do next, a sentence; "" when everything has the same version and is finished.
	Next string `json:"next,omitempty"`
}

// CanFinish reports whether all servers read more than the rack writes.
func (u *Upgrade) CanFinish() bool { return u.Reads > u.Format }
