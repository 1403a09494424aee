package api

import (
	"fmt"
	"time"
)

// MilliCPU is a share of processor time: 1000 is one core.
type MilliCPU int64

// Bytes is an amount of memory or disk.
type Bytes int64

// Powers of 1024, for writing amounts.
const (
	KiB Bytes = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// String returns the amount with its largest whole unit, for example "512 MiB".
func (b Bytes) String() string {
	for _, u := range []struct {
		size Bytes
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if b >= u.size || -b >= u.size {
			if b%u.size == 0 {
				return fmt.Sprintf("%d %s", b/u.size, u.name)
			}
			return fmt.Sprintf("%.1f %s", float64(b)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", int64(b))
}

// String returns cores with their unit, for example "0.25 cpu".
func (m MilliCPU) String() string { return fmt.Sprintf("%g cpu", float64(m)/1000) }

// Seconds converts a count of seconds, as manifests write them, to a duration.
func Seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// Amount is what a process asks of a node, or what a node has.
type Amount struct {
	CPU    MilliCPU `json:"cpu"`
	Memory Bytes    `json:"memory"`
	Disk   Bytes    `json:"disk,omitempty"`
}

// Add returns a + b.
func (a Amount) Add(b Amount) Amount {
	return Amount{a.CPU + b.CPU, a.Memory + b.Memory, a.Disk + b.Disk}
}

// Sub returns a - b; parts may go below zero.
func (a Amount) Sub(b Amount) Amount {
	return Amount{a.CPU - b.CPU, a.Memory - b.Memory, a.Disk - b.Disk}
}

// Fits reports whether every part of a is at most the same part of free.
func (a Amount) Fits(free Amount) bool {
	return a.CPU <= free.CPU && a.Memory <= free.Memory && a.Disk <= free.Disk
}
