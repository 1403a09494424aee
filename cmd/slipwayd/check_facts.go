package main

import (
	"net/netip"
	"time"

	"slipway/api"
)

// facts are what check has seen of a machine. What it makes of them is up to judge.
type facts struct {
	root      bool
	installer string // command that installs packages, "" for one that is not known
	kernel    string // release
	probes    []probeFact
	cgroup    cgroupFacts
	programs  []programFact
	daemon    string // version of the containerd that answers, "" for none

	dir   dirFacts
	clock clockFacts
	files uint64 // open files that a process may have, its hard limit
	swap  swapFacts

	link        linkFacts // of the default route
	forwarding  bool      // the kernel forwards IPv4
	overlaps    []routeFact
	chains      []chainFact
	chainsError string // why they could not be read

	ports []portFact
	peers []peerFact
}

// probeFact is something that the kernel was asked to do.
type probeFact struct {
	name string // overlay, bridge, veth, vxlan, nftables
	err  string // "" if it did
}

type cgroupFacts struct {
	version     int // 1 or 2; 0 if there are none
	controllers []string
	writable    string // why a group cannot be made, "" if it can
	boundsSwap  bool   // a limit of memory can bound swap as well
}

type programFact struct {
	name    string
	path    string // "" if it is not on the path
	aside   string // where it is instead, if it is somewhere
	version string // "" where it says none
}

type dirFacts struct {
	path       string // as asked for, absolute
	tried      string // the directory itself, or the nearest one above that is there
	err        string // why it could not be tried
	filesystem string
	total      api.Bytes
	free       api.Bytes
	inodes     uint64 // free; 0 and inodesAll 0 where the file system counts none
	inodesAll  uint64
	syncs      []time.Duration // of 4 KiB each, in ascending order
}

type clockFacts struct {
	synchronised bool
	errorMax     time.Duration // as the kernel believes
}

type swapFacts struct {
	size    api.Bytes
	devices []string
}

type linkFacts struct {
	name string // "" if there is no such route
	mtu  int
}

// routeFact is a route to addresses that the rack's processes are to have.
type routeFact struct {
	to   netip.Prefix
	link string
}

// chainFact is a base chain of a firewall.
type chainFact struct {
	family, table, name, hook, policy string
	legacy                            bool // of iptables before nftables
	ufw                               bool // its table is that of ufw
}

type portFact struct {
	protocol api.Protocol
	port     int
	use      string // what it is for
	flag     string // that names another one, "" if there is none
	err      string // why it could not be taken, "" if it could
	holder   holder // of a port that is taken
}

// holder is who has a port.
type holder struct {
	program string // "" if it is not known
	pid     int
	unit    string // of systemd, "" for none
	device  string // a vxlan device of the kernel
}

type peerFact struct {
	addr      string
	err       dialError
	cause     string          // of err
	trips     []time.Duration // to connect, in ascending order
	link      linkFacts       // that leads there
	dated     bool            // it told its time
	offset    time.Duration   // of its clock to ours
	precision time.Duration   // of offset
}

// dialError is the kind of an error of connecting.
type dialError string

// Why a peer was not reached.
const (
	dialUnknown dialError = "unknown name"
	dialRefused dialError = "refused"
	dialSilent  dialError = "no answer"
	dialOther   dialError = "other"
)
