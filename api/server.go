package api

import (
	"fmt"
	"time"
)

// Server is one server of a rack.
type Server struct {
	ID   string `json:"id"`
	Name string `json:"name"` // the host name
	// Addr is where clients and agents reach it, Registry where images and metrics are, Raft where
	// the other servers reach it.
	Addr     string `json:"addr"`
	Registry string `json:"registry"`
	Raft     string `json:"raft"`
	Gossip   string `json:"gossip,omitempty"`
	Version  string `json:"version"`
	// Formats is what its program reads of the replicated log.
	Formats Formats   `json:"formats,omitzero"`
	Joined  time.Time `json:"joined"`
	// Leader and Voter are Raft's words for it. Contact is when the leader last heard of it; zero
	// for the leader itself, and for a server that it has never heard of.
	Leader  bool      `json:"leader,omitempty"`
	Voter   bool      `json:"voter,omitempty"`
	Status  string    `json:"status"` // alive, silent
	Contact time.Time `json:"contact,omitzero"`
}

// Called is the name of the server, its ID where it has none.
func (s *Server) Called() string {
	if s.Name == "" {
		return s.ID
	}
	return s.Name
}

// Formats is a range of formats of the replicated log and its snapshots: what a program reads. The
// zero value is that of programs that do not say, which read the first two.
type Formats struct {
	Oldest uint32 `json:"oldest"`
	Newest uint32 `json:"newest"`
}

// formatsUnsaid is the newest format that was there before programs said what they read.
const formatsUnsaid = 2

// Reads reports whether a format is in the range.
func (f Formats) Reads(format uint32) bool {
	if f == (Formats{}) {
		return format <= formatsUnsaid
	}
	return f.Oldest <= format && format <= f.Newest
}

// Upto is the newest format in the range.
func (f Formats) Upto() uint32 {
	if f == (Formats{}) {
		return formatsUnsaid
	}
	return f.Newest
}

// String is "1 to 2".
func (f Formats) String() string { return fmt.Sprintf("%d to %d", max(f.Oldest, 1), f.Upto()) }

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
