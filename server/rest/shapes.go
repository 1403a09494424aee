package rest

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/api"
)

// The shapes of answers, as clients of Convox read them.

// version is what the rack says it is: clients compare it as text with moments of Convox's history
// and speak older dialects to older racks.
const version = "20260101000000"

type system struct {
	Count      int               `json:"count"` // of nodes
	Domain     string            `json:"domain"`
	Name       string            `json:"name"`
	Outputs    map[string]string `json:"outputs"`
	Parameters map[string]string `json:"parameters"`
	Provider   string            `json:"provider"`
	RackDomain string            `json:"rack-domain"` // where this API answers
	Region     string            `json:"region"`
	Status     string            `json:"status"`
	Type       string            `json:"type"`
	Version    string            `json:"version"`
}

type rackName struct {
	Name   string `json:"name"`
	Status string `json:"status"`
}

type capacity struct {
	ClusterCPU    int64 `json:"cluster-cpu"`    // 1000 is one core
	ClusterMemory int64 `json:"cluster-memory"` // MB
	ProcessCount  int64 `json:"process-count"`
	ProcessCPU    int64 `json:"process-cpu"`
	ProcessMemory int64 `json:"process-memory"`
}

type jwt struct {
	Token string `json:"token"`
}

type app struct {
	Generation string            `json:"generation"`
	Locked     bool              `json:"locked"`
	Name       string            `json:"name"`
	Release    string            `json:"release"`
	Router     string            `json:"router"`
	Status     string            `json:"status"`
	Parameters map[string]string `json:"parameters"`
}

func appOf(a api.AppInfo) app {
	return app{Generation: "3", Locked: a.Locked, Name: string(a.Name), Release: string(a.Release), Status: appStatus(a.Status), Parameters: map[string]string{}}
}

// appStatus translates the status of an app. Clients wait for "running", which in Convox an app
// also is before its first deployment and after one that failed.
func appStatus(s string) string {
	switch s {
	case "created", "failed":
		return "running"
	case "rolling-back":
		return "rollback"
	}
	return s
}

type build struct {
	ID          string    `json:"id"`
	App         string    `json:"app"`
	Description string    `json:"description"`
	Entrypoint  string    `json:"entrypoint"`
	GitSHA      string    `json:"git-sha"`
	Logs        string    `json:"logs"`
	Manifest    string    `json:"manifest"`
	Process     string    `json:"process"`
	Release     string    `json:"release"`
	Reason      string    `json:"reason"`
	Repository  string    `json:"repository"`
	Status      string    `json:"status"`
	Started     time.Time `json:"started"`
	Ended       time.Time `json:"ended"`
}

func buildOf(name api.AppName, b api.BuildInfo) build {
	out := build{
		ID: string(b.ID), App: string(name), Description: b.Description, GitSHA: b.GitSHA, Process: string(b.Process),
		Release: string(b.Release), Reason: b.Failure, Repository: string(name), Status: string(b.Status), Started: b.Started, Ended: b.Ended,
	}
	if out.Started.IsZero() {
		out.Started = b.Created
	}
	// Clients take any other status for the end, and then want the release.
	if b.Status == api.BuildCreated || b.Status == api.BuildComplete && b.Release == "" {
		out.Status = string(api.BuildRunning)
	}
	return out
}

type release struct {
	ID          string    `json:"id"`
	App         string    `json:"app"`
	Build       string    `json:"build"`
	Env         string    `json:"env"` // NAME=value, a line each
	Manifest    string    `json:"manifest"`
	Description string    `json:"description"`
	Created     time.Time `json:"created"`
}

func releaseOf(name api.AppName, r api.ReleaseInfo) release {
	return release{ID: string(r.ID), App: string(name), Build: string(r.Build), Manifest: r.Manifest, Description: r.Description, Created: r.Created}
}

// envText writes an environment, sorted by name.
func envText(env map[string]string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		lines = append(lines, name+"="+env[name])
	}
	return strings.Join(lines, "\n")
}

type process struct {
	ID       string    `json:"id"`
	App      string    `json:"app"`
	Command  string    `json:"command"`
	CPU      float64   `json:"cpu"`
	Host     string    `json:"host"`
	Image    string    `json:"image"`
	Instance string    `json:"instance"` // the node
	Memory   float64   `json:"memory"`
	Name     string    `json:"name"` // of the service
	Ports    []string  `json:"ports"`
	Release  string    `json:"release"`
	Service  string    `json:"service"`
	Started  time.Time `json:"started"`
	Status   string    `json:"status"`
}

func processOf(p api.ProcessInfo) process {
	started := p.Started
	if started.IsZero() {
		started = p.Created
	}
	return process{
		ID: string(p.ID), App: string(p.App), Command: p.Command, Host: p.Addr, Instance: p.Node, Name: string(p.Service), Ports: []string{},
		Release: string(p.Release), Service: string(p.Service), Started: started, Status: processStatus(p.Status),
	}
}

// processStatus translates the status of a process; clients wait for "running".
func processStatus(s string) string {
	switch s {
	case "assigned":
		return "pending"
	case "pulling":
		return "starting"
	case "exited", "stopped":
		return "complete"
	case "lost":
		return "failed"
	}
	return s
}

type service struct {
	Count  int           `json:"count"`
	CPU    int           `json:"cpu"` // 1000 is one core
	Domain string        `json:"domain"`
	Memory int           `json:"memory"` // MB
	Name   string        `json:"name"`
	Nlb    []string      `json:"nlb"`
	Ports  []servicePort `json:"ports"`
}

type servicePort struct {
	Balancer    int    `json:"balancer"`
	Certificate string `json:"certificate"`
	Container   int    `json:"container"`
}

func serviceOf(s api.ServiceInfo) service {
	out := service{
		Count: s.Count, CPU: int(s.CPU), Domain: s.Domain, Memory: int(s.Memory / api.MiB), Name: string(s.Name), Nlb: []string{}, Ports: []servicePort{},
	}
	for _, text := range s.Ports { // "443:3000", or "3000" inside the rack only
		outside, inside, routed := strings.Cut(text, ":")
		if !routed {
			continue
		}
		var p servicePort
		p.Balancer, _ = strconv.Atoi(outside)
		p.Container, _ = strconv.Atoi(inside)
		out.Ports = append(out.Ports, p)
	}
	return out
}

type instance struct {
	Agent             bool      `json:"agent"`
	CPU               float64   `json:"cpu"` // 0 to 1, what is reserved
	CPUCapacity       float64   `json:"cpu-capacity"`
	CPUAllocatable    float64   `json:"cpu-allocatable"`
	ID                string    `json:"id"`
	Memory            float64   `json:"memory"`          // 0 to 1
	MemoryCapacity    float64   `json:"memory-capacity"` // MB
	MemoryAllocatable float64   `json:"memory-allocatable"`
	PrivateIP         string    `json:"private-ip"`
	Processes         int       `json:"processes"`
	PublicIP          string    `json:"public-ip"`
	Status            string    `json:"status"`
	Started           time.Time `json:"started"`
}

func instanceOf(i api.NodeInfo) instance {
	n := &i.Node
	may := n.Available()
	out := instance{
		Agent: n.Status == api.NodeReady, ID: n.Name, PrivateIP: n.Addr, Processes: len(i.Processes), Status: nodeStatus(n), Started: n.Since,
		CPUCapacity: float64(n.Capacity.CPU), CPUAllocatable: float64(may.CPU),
		MemoryCapacity: float64(n.Capacity.Memory / api.MiB), MemoryAllocatable: float64(may.Memory / api.MiB),
	}
	if n.Name == "" {
		out.ID = string(n.ID)
	}
	if may.CPU > 0 && may.Memory > 0 {
		out.CPU, out.Memory = float64(i.Used.CPU)/float64(may.CPU), float64(i.Used.Memory)/float64(may.Memory)
	}
	return out
}

// nodeStatus is the word of Convox for the state of a node.
func nodeStatus(n *api.Node) string {
	switch {
	case n.Status != api.NodeReady:
		return string(n.Status)
	case n.Draining:
		return "draining"
	case n.Cordoned:
		return "cordoned"
	}
	return "active"
}

type object struct {
	URL string `json:"url"`
}

// all translates a list.
func all[T, U any](list []T, translate func(T) U) []U {
	out := make([]U, 0, len(list))
	for _, v := range list {
		out = append(out, translate(v))
	}
	return out
}
