package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os/exec"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// BitRate is a throughput in bits per second.
type BitRate int64

// Units of throughput.
const (
	Kbit BitRate = 1000
	Mbit         = 1000 * Kbit
	Gbit         = 1000 * Mbit
)

// faults are the faults of a rig's network, all at once. Hosts are named by their numbers.
type faults struct {
	Cut    []int           `json:"cut,omitempty"`
	OneWay []oneWay        `json:"one_way,omitempty"`
	Groups [][]int         `json:"groups,omitempty"` // of a partition
	Loss   map[int]float64 `json:"loss,omitempty"`   // in percent of the frames, each way
	Rate   map[int]BitRate `json:"rate,omitempty"`   // each way

	Latency map[int]latency `json:"latency,omitempty"`
}

type oneWay struct{ From, To int }

// Cut takes the carrier from a host: nothing reaches it or leaves it, and it can see that.
func (r *Rig) Cut(host int) error {
	return r.fault([]int{host}, func(f *faults) { f.Cut = append(f.Cut, host) })
}

// CutOneWay drops what one host sends to another; what comes back passes.
func (r *Rig) CutOneWay(from, to int) error {
	return r.fault([]int{from, to}, func(f *faults) { f.OneWay = append(f.OneWay, oneWay{from, to}) })
}

// Partition parts hosts into groups that do not reach one another; no host can see why. A host
// of no group reaches all, and so does the uplink. It takes the place of the last partition;
// without groups it ends that.
func (r *Rig) Partition(groups ...[]int) error {
	all := slices.Concat(groups...)
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		return api.Errorf(api.CodeInvalid, "hosts: partition %v: a host may be in one group only", groups)
	}
	return r.fault(all, func(f *faults) { f.Groups = groups })
}

// Loss drops a share of all frames to and from a host, in percent each way; 0 ends it.
func (r *Rig) Loss(host int, percent float64) error {
	if percent < 0 || percent > 100 {
		return api.Errorf(api.CodeInvalid, "hosts: loss of %v %%; give 0 to 100", percent)
	}
	return r.fault([]int{host}, func(f *faults) { set(&f.Loss, host, percent) })
}

// Rate limits the throughput of a host, each way, with a queue of 50 ms; 0 ends it.
func (r *Rig) Rate(host int, rate BitRate) error {
	if rate < 0 {
		return api.Errorf(api.CodeInvalid, "hosts: rate of %d bit/s; give 0 for no limit", rate)
	}
	return r.fault([]int{host}, func(f *faults) { set(&f.Rate, host, rate) })
}

// Heal ends all faults of a host but a partition: cuts that it is an end of, loss, rate, latency.
func (r *Rig) Heal(host int) error {
	return r.fault([]int{host}, func(f *faults) {
		f.Cut = slices.DeleteFunc(f.Cut, func(i int) bool { return i == host })
		f.OneWay = slices.DeleteFunc(f.OneWay, func(w oneWay) bool { return w.From == host || w.To == host })
		delete(f.Loss, host)
		delete(f.Rate, host)
		delete(f.Latency, host)
	})
}

// HealAll ends all faults of the network. Hosts that are off stay off.
func (r *Rig) HealAll() error {
	return r.fault(nil, func(f *faults) { *f = faults{} })
}

// set sets a fault's measure for a host, or takes it away where it is zero.
func set[V comparable](m *map[int]V, host int, v V) {
	delete(*m, host)
	var none V
	if v == none {
		return
	}
	if *m == nil {
		*m = map[int]V{}
	}
	(*m)[host] = v
}

// fault changes the faults and makes the network follow.
func (r *Rig) fault(named []int, change func(*faults)) error {
	return r.change(named, func(s *state) error {
		change(&s.Faults)
		return s.applyFaults()
	})
}

// change is fault for changes in several steps.
func (r *Rig) change(named []int, steps func(*state) error) error {
	for _, i := range named {
		if i < 0 || i >= len(r.hosts) {
			return api.Errorf(api.CodeInvalid, "hosts: there is no host %d; the rig has 0 to %d", i, len(r.hosts)-1)
		}
	}
	return r.locked(func(s *state) error {
		if err := steps(s); err != nil {
			return fmt.Errorf("hosts: faults: %w", err)
		}
		return nil
	})
}

// applyFaults makes the network as the faults say, whatever it was before.
func (s *state) applyFaults() error {
	maps.DeleteFunc(s.Faults.Latency, func(_ int, l latency) bool { return !l.By.alive() })
	if err := s.nft(s.Faults.rules()); err != nil {
		return err
	}
	for i := range s.Hosts {
		if !s.Hosts[i].Pause.alive() {
			continue
		}
		if err := s.limitHost(i); err != nil && !errors.Is(err, fs.ErrNotExist) { // it has just ended
			return fmt.Errorf("link of %s: %w", s.Hosts[i].Name, err)
		}
		err := s.withPort(i, func(h *netlink.Handle, l netlink.Link) error {
			cut := slices.Contains(s.Faults.Cut, i)
			if cut {
				if err := h.LinkSetDown(l); err != nil {
					return err
				}
			}
			if err := s.detour(i, h, l); err != nil {
				return err
			}
			if err := limit(h, l, s.Faults.Rate[i]); err != nil || cut {
				return err
			}
			return h.LinkSetUp(l) // last: no frame passes before all else is as it has to be
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rules is the switch's whole table as nft reads it. The ports' names are the same after a host
// was off, so that the rules hold for it again.
func (f faults) rules() string {
	var b strings.Builder
	b.WriteString("table bridge faults\ndelete table bridge faults\ntable bridge faults {\n\tchain pass {\n\t\ttype filter hook forward priority 0; policy accept;\n")
	for _, w := range f.OneWay {
		fmt.Fprintf(&b, "\t\tiifname { %s } oifname { %s } drop\n", ports(w.From), ports(w.To))
	}
	for i, from := range f.Groups {
		for j, to := range f.Groups {
			if i != j && len(from) > 0 && len(to) > 0 {
				fmt.Fprintf(&b, "\t\tiifname { %s } oifname { %s } drop\n", ports(from...), ports(to...))
			}
		}
	}
	for host := range len(f.Loss) + hostsMax { // in order, so that equal faults have equal rules
		if percent := f.Loss[host]; percent > 0 {
			for _, way := range []string{"iifname", "oifname"} {
				fmt.Fprintf(&b, "\t\t%s { %s } numgen random mod 10000 < %d drop\n", way, ports(host), int(math.Ceil(percent*100)))
			}
		}
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// ports are the links by which the bridge may reach hosts.
func ports(hosts ...int) string {
	var names []string
	for _, i := range hosts {
		names = append(names, fmt.Sprintf("%q, %q", port(i), delayPort(i)))
	}
	return strings.Join(names, ", ")
}

// nft applies a script in the switch as one transaction.
func (s *state) nft(script string) error {
	if s.Switch.PID == 0 {
		return api.Errorf(api.CodeInternal, "nft rules without a switch would be the machine's")
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := startIn(cmd, nil, s.Switch, unix.CLONE_NEWNET)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("apply nft rules: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

// limitHost limits what a host sends: a queue works on what leaves a link, and so there is one
// at each end.
func (s *state) limitHost(i int) error {
	h, err := s.Hosts[i].Pause.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(hostLink)
	if err != nil {
		return err
	}
	return limit(h, link, s.Faults.Rate[i])
}

// limit sets the throughput of one end of a link; 0 is what it has of itself.
func limit(h *netlink.Handle, link netlink.Link, rate BitRate) error {
	list, err := h.QdiscList(link)
	if err != nil {
		return err
	}
	var old netlink.Qdisc
	for _, q := range list {
		if q.Type() == "tbf" && q.Attrs().Parent == netlink.HANDLE_ROOT {
			old = q
		}
	}
	if rate == 0 {
		if old == nil {
			return nil
		}
		return h.QdiscDel(old)
	}
	const (
		burst = 32 << 10 // bytes at once
		delay = 20       // the queue holds a twentieth of a second
	)
	perSecond := uint64(max(rate/8, 1))
	return h.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       perSecond, Buffer: netlink.Xmittime(perSecond, burst), Limit: uint32(min(perSecond/delay, 1<<30) + burst),
	})
}
