package api

import "time"

// Server is one server of a rack.
type Server struct {
	ID   string `json:"id"`
	Name string `json:"name"` // the host name
	// Addr is where clients and agents reach it, Registry where images and metrics are, Raft where
	// the other servers reach it.
	Addr     string    `json:"addr"`
	Registry string    `json:"registry"`
	Raft     string    `json:"raft"`
	Gossip   string    `json:"gossip,omitempty"`
	Version  string    `json:"version"`
	Joined   time.Time `json:"joined"`
	// Leader and Voter are Raft's words for it. Contact is when the leader last heard of it; zero
	// for the leader itself, and for a server that it has never heard of.
	Leader  bool      `json:"leader,omitempty"`
	Voter   bool      `json:"voter,omitempty"`
	Status  string    `json:"status"` // alive, silent
	Contact time.Time `json:"contact,omitzero"`
}

// The roles of tokens that belong to people and to their programs.
const (
	RoleAdmin    = "admin"    // everything
	RoleDeployer = "deployer" // everything inside its apps
	RoleViewer   = "viewer"   // reads, without environment values
)

// UserRole reports whether tokens of a role belong to people, and not to machines of the rack.
func UserRole(role string) bool {
	return role == RoleAdmin || role == RoleDeployer || role == RoleViewer
}

// Token is an access token as the rack knows it: everything but its secret.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Role    string    `json:"role"`           // admin, deployer, viewer; join-server, join-agent
	Apps    []AppName `json:"apps,omitempty"` // empty is all apps
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}
