package api

import (
	"fmt"
	"slices"
)

// Device is a group of alike devices of a node.
type Device struct {
	// Kind is what a service asks for: "gpu", or a name that the operator gave.
	Kind   string `json:"kind"`
	Vendor string `json:"vendor,omitempty"`
	Model  string `json:"model,omitempty"`
	// Attributes are facts that a DeviceAsk can have constraints on: "memory" in MiB.
	Attributes map[string]string `json:"attributes,omitempty"`
	// Instances name the single devices, each unique on the node.
	Instances []string `json:"instances"`
}

// DeviceAsk asks for devices, each of which belongs to one process at a time.
type DeviceAsk struct {
	Kind   string `json:"kind"`
	Vendor string `json:"vendor,omitempty"` // "" for any
	Model  string `json:"model,omitempty"`  // "" for any
	Count  int    `json:"count"`
	// Constraints must hold for the attributes of the group.
	Constraints []Constraint `json:"constraints,omitempty"`
}

// Suits reports whether the devices of a group are what is asked for, used or not.
func (a *DeviceAsk) Suits(d *Device) bool {
	if a.Kind != d.Kind || a.Vendor != "" && a.Vendor != d.Vendor || a.Model != "" && a.Model != d.Model {
		return false
	}
	return !slices.ContainsFunc(a.Constraints, func(c Constraint) bool {
		value, ok := d.Attributes[c.Attribute]
		return !c.Holds(value, ok)
	})
}

// String names what is asked for: "gpu", "nvidia gpu" or "nvidia gpu a100".
func (a *DeviceAsk) String() string {
	name := a.Kind
	if a.Vendor != "" {
		name = a.Vendor + " " + name
	}
	if a.Model != "" {
		name += " " + a.Model
	}
	return name
}

// Protocol is what a host port speaks.
type Protocol string

// The protocols of host ports.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// The host ports that are given to processes that ask for any.
const (
	FirstDynamicPort = 20000
	LastDynamicPort  = 32000
)

// HostPort is a port of the node that leads to a port of a process.
type HostPort struct {
	// Host is the port of the node; 0 in a spec asks for any between FirstDynamicPort and
	// LastDynamicPort.
	Host int `json:"host,omitempty"`
	// Port is the port that the process listens on, 1–65535.
	Port     int      `json:"port"`
	Protocol Protocol `json:"protocol"`
}

// Name names the port of the node: "host port 8080/tcp".
func (p HostPort) Name() string { return fmt.Sprintf("host port %d/%s", p.Host, p.Protocol) }

// Grant is what a process has of its node for itself.
type Grant struct {
	HostPorts []HostPort `json:"host_ports,omitempty"` // Host is never 0
	Devices   []string   `json:"devices,omitempty"`    // instances
}

// Usage is what the live processes of a node hold.
type Usage struct {
	Amount
	Grant
}

// Add returns the usage with a process more.
func (u Usage) Add(ask Amount, g *Grant) Usage {
	u.Amount = u.Amount.Add(ask)
	if g != nil {
		u.HostPorts = append(slices.Clone(u.HostPorts), g.HostPorts...)
		u.Devices = append(slices.Clone(u.Devices), g.Devices...)
	}
	return u
}

// Sub returns the usage with a process less.
func (u Usage) Sub(ask Amount, g *Grant) Usage {
	u.Amount = u.Amount.Sub(ask)
	if g != nil {
		u.HostPorts = without(u.HostPorts, g.HostPorts)
		u.Devices = without(u.Devices, g.Devices)
	}
	return u
}

// Empty reports whether nothing is held.
func (u Usage) Empty() bool {
	return u.Amount == (Amount{}) && len(u.HostPorts)+len(u.Devices) == 0
}

// Same reports whether two usages hold the same, in whatever order.
func (u Usage) Same(v Usage) bool {
	return u.Amount == v.Amount && len(u.HostPorts) == len(v.HostPorts) && len(u.Devices) == len(v.Devices) &&
		len(without(u.HostPorts, v.HostPorts))+len(without(u.Devices, v.Devices)) == 0
}

// Collides returns the first port or device of g that is held already; "" if none is.
func (u Usage) Collides(g *Grant) string {
	if g == nil {
		return ""
	}
	for _, p := range g.HostPorts {
		if u.HoldsPort(p.Host, p.Protocol) {
			return p.Name()
		}
	}
	for _, d := range g.Devices {
		if slices.Contains(u.Devices, d) {
			return "device " + d
		}
	}
	return ""
}

// HoldsPort reports whether a host port is taken.
func (u Usage) HoldsPort(host int, protocol Protocol) bool {
	return slices.ContainsFunc(u.HostPorts, func(p HostPort) bool { return p.Host == host && p.Protocol == protocol })
}

// without returns a copy of all with one of each of gone less.
func without[T comparable](all, gone []T) []T {
	out := slices.Clone(all)
	for _, g := range gone {
		if i := slices.Index(out, g); i >= 0 {
			out = slices.Delete(out, i, i+1)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
