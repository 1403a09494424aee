package api

import "time"

// ServiceSpec is one process type as the manifest describes it, with every default filled in.
// Values that may be secret (environment, command) are not here but in ServiceSecrets.
type ServiceSpec struct {
	Name ServiceName `json:"name"`
	// Build is nil for a service that runs a given image.
	Build *BuildSpec `json:"build,omitempty"`
	Image string     `json:"image,omitempty"`

	// Port is the main port, which the router leads to; 0 for none.
	Port Port `json:"port,omitzero"`
	// Ports are further ports of the process, reachable inside the rack.
	Ports []Port `json:"ports,omitempty"`

	Domains  []string `json:"domains,omitempty"`
	Internal bool     `json:"internal,omitempty"`
	Sticky   bool     `json:"sticky,omitempty"`
	// Timeout bounds the wait for a response of the process and an idle connection.
	Timeout time.Duration `json:"timeout"`
	// Redirect answers plain HTTP with a redirect to HTTPS.
	Redirect  bool     `json:"redirect"`
	Whitelist []string `json:"whitelist,omitempty"` // CIDRs; empty allows all

	Health   Health `json:"health"`
	Liveness *Probe `json:"liveness,omitempty"`
	Startup  *Probe `json:"startup,omitempty"`

	// Drain bounds the wait for requests in flight after the router stopped sending new ones.
	Drain time.Duration `json:"drain"`
	// Grace is the time between SIGTERM and SIGKILL.
	Grace time.Duration `json:"grace"`
	// Minimum and Maximum bound the copies during a rollout, in percent of the count.
	Minimum int `json:"minimum"`
	Maximum int `json:"maximum"`

	Scale Scale `json:"scale"`
	// Agent runs one copy on every eligible node instead of Scale.Count copies.
	Agent bool `json:"agent,omitempty"`
	// Singleton never has two copies at once.
	Singleton  bool            `json:"singleton,omitempty"`
	Init       bool            `json:"init,omitempty"`
	Privileged bool            `json:"privileged,omitempty"`
	Security   SecurityContext `json:"security,omitzero"`

	Volumes   []Volume `json:"volumes,omitempty"`
	Resources []string `json:"resources,omitempty"`
	// Environment lists the names of the variables that the service receives, sorted.
	Environment []string          `json:"environment,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`

	// Devices are what each copy gets for itself, GPUs for one.
	Devices []DeviceAsk `json:"devices,omitempty"`
	// HostPorts are ports of the node that lead to each copy.
	HostPorts []HostPort `json:"host_ports,omitempty"`

	Pool        PoolName     `json:"pool,omitempty"` // "" is the default pool
	Constraints []Constraint `json:"constraints,omitempty"`
	Affinities  []Affinity   `json:"affinities,omitempty"`
	Spreads     []Spread     `json:"spreads,omitempty"`
	// Priority orders services when room is short; higher wins. Default 50.
	Priority int `json:"priority"`
}

// Routed reports whether the service receives traffic through the router.
func (s *ServiceSpec) Routed() bool { return s.Port.Number != 0 && !s.Internal && !s.Agent }

// BuildSpec says how to build an image.
type BuildSpec struct {
	Path       string   `json:"path"`       // below the source root; "." is the root
	Dockerfile string   `json:"dockerfile"` // below Path
	Args       []string `json:"args,omitempty"`
	Target     string   `json:"target,omitempty"`
}

// Scheme is how a port is spoken to.
type Scheme string

// The schemes of a port.
const (
	SchemeHTTP  Scheme = "http"
	SchemeHTTPS Scheme = "https"
	SchemeGRPC  Scheme = "grpc"
	SchemeTCP   Scheme = "tcp"
	SchemeUDP   Scheme = "udp"
)

// Port is a port that a process listens on.
type Port struct {
	Number int    `json:"number"` // 1–65535; 0 means no port
	Scheme Scheme `json:"scheme"`
}

// Health says how a process proves that it may receive traffic.
type Health struct {
	// Disabled makes a running process healthy.
	Disabled bool `json:"disabled,omitempty"`
	// TCP probes by connecting only.
	TCP  bool   `json:"tcp,omitempty"`
	Path string `json:"path,omitempty"`
	// Port overrides the service's port; 0 keeps it.
	Port     int           `json:"port,omitempty"`
	Grace    time.Duration `json:"grace"`    // failures before this age do not count
	Interval time.Duration `json:"interval"` // between two probes
	Timeout  time.Duration `json:"timeout"`  // of one probe
}

// Probe is a liveness or startup check.
type Probe struct {
	Path             string        `json:"path,omitempty"`
	TCP              bool          `json:"tcp,omitempty"`
	Port             int           `json:"port,omitempty"` // 0 keeps the service's port
	Grace            time.Duration `json:"grace"`
	Interval         time.Duration `json:"interval"`
	Timeout          time.Duration `json:"timeout"`
	SuccessThreshold int           `json:"success_threshold"`
	FailureThreshold int           `json:"failure_threshold"`
}

// Scale is how many copies run and what each asks for.
type Scale struct {
	Count int `json:"count"` // = Min; autoscaling moves it up to Max
	Min   int `json:"min"`
	Max   int `json:"max"`
	// Ask is what the scheduler reserves for one copy.
	Ask Amount `json:"ask"`
	// CPULimit caps processor time; 0 is no cap. MemoryLimit caps memory; 0 means Ask.Memory.
	CPULimit    MilliCPU `json:"cpu_limit,omitempty"`
	MemoryLimit Bytes    `json:"memory_limit,omitempty"`
}

// SecurityContext narrows what a process may do.
type SecurityContext struct {
	RunAsUser        *int64   `json:"run_as_user,omitempty"`
	RunAsGroup       *int64   `json:"run_as_group,omitempty"`
	RunAsNonRoot     bool     `json:"run_as_non_root,omitempty"`
	ReadOnlyRootFS   bool     `json:"read_only_root_fs,omitempty"`
	CapabilitiesDrop []string `json:"capabilities_drop,omitempty"`
	CapabilitiesAdd  []string `json:"capabilities_add,omitempty"`
}

// Volume is a directory that outlives the process.
type Volume struct {
	// Name identifies the rack-managed directory, unique in app and service. Empty when Host
	// is set.
	Name string `json:"name,omitempty"`
	// Host is one of the few host paths that may be mounted.
	Host string `json:"host,omitempty"`
	// Path is where the process sees it.
	Path string `json:"path"`
	// ReadOnly volumes cannot be written to. Those with Host always are.
	ReadOnly bool `json:"read_only,omitempty"`
	// Memory volumes are empty at start and live in memory, capped by Size.
	Memory bool  `json:"memory,omitempty"`
	Size   Bytes `json:"size,omitempty"`
}

// Constraint must hold on every node that a copy is placed on.
type Constraint struct {
	Attribute string `json:"attribute"` // "node.label.zone", "node.arch", …
	// Operator is one of Operators. distinct_property bounds the copies of a release per value
	// of the attribute by Value, 1 if empty; distinct_hosts, which has no attribute, puts them
	// on different nodes.
	Operator string `json:"operator"`
	Value    string `json:"value,omitempty"`
}

// Affinity prefers (or, with a negative weight, avoids) nodes.
type Affinity struct {
	Attribute string `json:"attribute"`
	Operator  string `json:"operator"`
	Value     string `json:"value,omitempty"`
	Weight    int    `json:"weight"` // -100 … 100
}

// Spread distributes copies over the values of an attribute.
type Spread struct {
	Attribute string `json:"attribute"`
	Weight    int    `json:"weight"` // 1 … 100
	// Targets gives the percentage of copies per value; empty spreads evenly.
	Targets map[string]int `json:"targets,omitempty"`
}

// Service is a service in force: what should be alive now, release by release. The rollout
// writes Want; the scheduler makes the processes match it.
type Service struct {
	Key ServiceKey `json:"key"`
	// Want lists how many copies of which release should be alive, newest release first.
	Want []Want `json:"want"`
	// Override replaces the manifest's scale until it is reset; nil when there is none.
	Override *ScaleOverride `json:"override,omitempty"`
	// Waiting says why copies that are wanted are not placed; empty when all are.
	Waiting string `json:"waiting,omitempty"`
	// RestartAt is the moment of the last requested restart: processes created before it are
	// replaced.
	RestartAt time.Time `json:"restart_at,omitzero"`
}

// Want asks for a number of live copies of one release of a service.
type Want struct {
	Release ReleaseID `json:"release"`
	Count   int       `json:"count"`
}

// ScaleOverride is an explicit `slipway scale`; zero parts keep the manifest's value.
type ScaleOverride struct {
	Count  *int      `json:"count,omitempty"`
	CPU    MilliCPU  `json:"cpu,omitempty"`
	Memory Bytes     `json:"memory,omitempty"`
	Author string    `json:"author"`
	At     time.Time `json:"at"`
}

// Over returns the override with the parts of an earlier one that it does not give itself; either
// may be nil.
func (o *ScaleOverride) Over(earlier *ScaleOverride) *ScaleOverride {
	if o == nil || earlier == nil {
		return o
	}
	next := *o
	if next.Count == nil {
		next.Count = earlier.Count
	}
	if next.CPU == 0 {
		next.CPU = earlier.CPU
	}
	if next.Memory == 0 {
		next.Memory = earlier.Memory
	}
	return &next
}

// Apply returns the scale with the override's parts in place.
func (o *ScaleOverride) Apply(s Scale) Scale {
	if o == nil {
		return s
	}
	if o.Count != nil {
		s.Count = *o.Count
	}
	if o.CPU > 0 {
		s.Ask.CPU = o.CPU
	}
	if o.Memory > 0 {
		s.Ask.Memory, s.MemoryLimit = o.Memory, 0
	}
	return s
}
