package runtime

import (
	"time"

	"slipway/api"
)

// ContainerState is where a container is in its life.
type ContainerState string

// The states of a container, in order.
const (
	// ContainerCreated is ready to start.
	ContainerCreated ContainerState = "created"
	// ContainerRunning has a live main process.
	ContainerRunning ContainerState = "running"
	// ContainerExited ended; its exit code is known.
	ContainerExited ContainerState = "exited"
	// ContainerLost is known by name only: its process is gone and nobody saw how, after a
	// reboot or the death of the engine's helper. Its exit code is ExitLost.
	ContainerLost ContainerState = "lost"
)

// ExitLost is the exit code that stands in for one that nobody saw: 128 + SIGKILL.
const ExitLost = 137

// Container is one container as the engine knows it.
type Container struct {
	ID     api.ProcessID
	Image  string
	Labels map[string]string
	State  ContainerState
	Pid    int // on the host, 0 when not alive
	// ExitCode, ExitedAt and OOM are set in ContainerExited and ContainerLost; ExitedAt is
	// zero where it is not known.
	ExitCode int
	ExitedAt time.Time
	OOM      bool
	// PeakMemory is the highest use so far; 0 where it is not known.
	PeakMemory api.Bytes
}

// EventKind is what an Event tells.
type EventKind string

// The kinds of event.
const (
	// EventExit: the main process ended. It comes at least once per exit that happens while
	// somebody listens, and may come again.
	EventExit EventKind = "exit"
	// EventOOM: the kernel killed a process of the container for its memory limit. The main
	// process may live on.
	EventOOM EventKind = "oom"
	// EventGap: events may have been missed; call List.
	EventGap EventKind = "gap"
)

// Event is something that happened to a container.
type Event struct {
	Kind EventKind
	ID   api.ProcessID // empty for EventGap
	At   time.Time
	// The rest is for EventExit.
	ExitCode   int
	OOM        bool
	PeakMemory api.Bytes
}

// Spec describes a container. It is complete: an engine adds nothing that depends on the node.
type Spec struct {
	ID    api.ProcessID
	Image string // a ref that was pulled
	// Entrypoint replaces the image's ENTRYPOINT if not nil; an empty one removes it. Command
	// replaces the image's CMD if not empty. What runs is entrypoint + command. An Entrypoint
	// without a Command drops the image's CMD.
	Entrypoint []string
	Command    []string
	// Env is added to the image's and wins, NAME=value.
	Env []string
	// User overrides the image's: "name", "uid", "name:group", "uid:gid". Empty keeps it.
	User string
	// Group overrides the group of that user, "name" or "gid", and is the only one. Empty keeps it.
	Group string
	// NonRoot refuses to create a container whose user is 0.
	NonRoot bool
	WorkDir string // absolute; empty keeps the image's
	// Labels are kept with the container and returned by List. No value is empty.
	Labels map[string]string

	Network Network
	Mounts  []Mount
	// Devices are device nodes of the host, by absolute path, or links to some. The process sees
	// them by the same path and may read and write them, whoever it runs as; of all others it has
	// only those that every container has.
	Devices []string
	Limits  Limits
	// ReadOnlyRootFS forbids writes outside mounts.
	ReadOnlyRootFS bool
	// CapDrop and CapAdd change the default set of capabilities ("NET_ADMIN" or
	// "CAP_NET_ADMIN"; "ALL" may be dropped). No policy lives here: the caller decides what may be added.
	CapDrop []string
	CapAdd  []string
	// Privileged lifts nearly all confinement. The caller decides who may have it.
	Privileged bool
	// Init runs a small init process as pid 1 that reaps orphans, where the engine has one.
	Init bool

	// Log is where the output is kept.
	Log Log
	// TTY gives the main process a terminal of the given size.
	TTY  bool
	Size Size
	// Attach gives the main process streams that Attach connects to. Output then waits for an
	// attachment (the process blocks when the pipe is full, nothing is dropped); what is
	// delivered is written to the log as well.
	Attach bool
}

// Network is what a process sees of the network.
type Network struct {
	// NetNS is the path of a prepared network namespace. Empty makes one with a loopback only.
	NetNS string
	// Host shares the node's network instead.
	Host     bool
	Hostname string // empty is the ID
	// Hosts and ResolvConf are the content of /etc/hosts and /etc/resolv.conf. Without Hosts a
	// file with localhost and the hostname is made; without ResolvConf the image's stays.
	Hosts      []byte
	ResolvConf []byte
}

// Mount is a directory or file in a container.
type Mount struct {
	// Source is an absolute path on the host. Empty makes an empty file system in memory,
	// bounded by Size, of mode 1777.
	Source   string
	Target   string    // absolute, clean
	Size     api.Bytes // for memory; 0 is 64 MiB
	ReadOnly bool
}

// OOMScore is the oom_score_adj of every process in a container, in thousandths of the node's memory.
// When the node itself has no memory left, the kernel ends containers before the node's own programs
// (0), the agent (-900) and containerd (-999), whose score they would inherit otherwise: among
// containers, the one that uses most.
const OOMScore = 100

// Limits bound what a container may use. Zero values do not limit.
type Limits struct {
	// CPU is a hard cap; CPUShares is the weight against other containers when processors are
	// short, in thousandths of a core.
	CPU       api.MilliCPU
	CPUShares api.MilliCPU
	Memory    api.Bytes // swap is not allowed on top
	Pids      int       // processes and threads; 0 is 4096
	Files     int       // open files per process; 0 is the engine's default
	// ShmSize is the size of /dev/shm; 0 is 64 MiB.
	ShmSize api.Bytes
}

// Log says where the output of a container is kept, in the format of package logfmt.
type Log struct {
	// Dir is the directory; it is made if needed, with mode 0750. Empty discards the output.
	Dir string
	// Max bounds all segments together; 0 is logfmt.DefaultMax.
	Max api.Bytes
}
