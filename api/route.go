package api

import "time"

// RouteTable is everything a router needs. A router serves exactly one version at a time.
type RouteTable struct {
	Version uint64  `json:"version"`
	Routes  []Route `json:"routes"`
}

// Route leads from hosts to the processes of one service.
type Route struct {
	Key   ServiceKey `json:"key"`
	Hosts []string   `json:"hosts"` // lower case; "*.example.com" matches one label
	// Scheme is how the targets are spoken to.
	Scheme    Scheme        `json:"scheme"`
	Sticky    bool          `json:"sticky,omitempty"`
	Redirect  bool          `json:"redirect,omitempty"`
	Timeout   time.Duration `json:"timeout"`
	Drain     time.Duration `json:"drain"`
	Whitelist []string      `json:"whitelist,omitempty"`
	Targets   []Target      `json:"targets,omitempty"`
}

// Target is one process that may receive traffic.
type Target struct {
	Process ProcessID `json:"process"`
	Addr    string    `json:"addr"` // "10.88.0.4:3000"
	// Since is the version of the table that first named the target.
	Since uint64 `json:"since"`
}

// RouterStatus is what a router reports: which version it serves and who still has requests.
type RouterStatus struct {
	Version  uint64           `json:"version"`
	Draining []DrainingTarget `json:"draining,omitempty"`
	// Requests and Errors count since the router started: all requests, and those answered
	// by the router itself with a 502, 503 or 504. Retries counts second tries.
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`
	Retries  uint64 `json:"retries"`
}

// DrainingTarget is a process that left the table with requests in flight.
type DrainingTarget struct {
	Process  ProcessID `json:"process"`
	InFlight int       `json:"in_flight"`
}
