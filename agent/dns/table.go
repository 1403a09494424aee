package dns

import (
	"net"
	"net/netip"
	"strings"
)

// table is what is known of a rack's names, without the zone. It never changes.
type table struct {
	hosts   map[string][]net.IP   // "service.app"
	ports   map[string][]port     // "_service._tcp.app"
	parents map[string]bool       // names below which there are others
	owners  map[netip.Addr]string // of addresses: "10-88-1-2.service.app"
}

// port is one that a process listens on.
type port struct {
	ip     net.IP
	number uint16
	target string // the name of this process alone, without the zone
}

// newTable reads "service.app" → addresses and ports, in order. What is no IPv4 address is left out: a
// newer server may say more than this node understands.
func newTable(names map[string][]netip.AddrPort) *table {
	t := &table{hosts: make(map[string][]net.IP, len(names)), ports: map[string][]port{}, parents: map[string]bool{}, owners: map[netip.Addr]string{}}
	for name, endpoints := range names {
		service, app, ok := strings.Cut(name, ".")
		if !ok {
			continue
		}
		srv := "_" + service + "._tcp." + app
		var last netip.Addr
		for _, e := range endpoints {
			if !e.Addr().Is4() {
				continue
			}
			ip := net.IP(e.Addr().AsSlice())
			if e.Addr() != last {
				last = e.Addr()
				t.hosts[name] = append(t.hosts[name], ip)
				t.owners[last] = label(ip) + "." + name
			}
			if e.Port() != 0 {
				t.ports[srv] = append(t.ports[srv], port{ip, e.Port(), label(ip) + "." + name})
			}
		}
	}
	for name := range t.hosts {
		t.addParents(name)
	}
	for name := range t.ports {
		t.addParents(name)
	}
	return t
}

func (t *table) addParents(name string) {
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok || t.parents[parent] {
			return
		}
		t.parents[parent], name = true, parent
	}
}

// label is the first part of the name of one process: its address with dashes.
func label(ip net.IP) string { return strings.ReplaceAll(ip.String(), ".", "-") }

// addresses returns those of a service, or of one process of it ("10-88-1-2.service.app").
func (t *table) addresses(name string) []net.IP {
	if ips, ok := t.hosts[name]; ok {
		return ips
	}
	first, service, _ := strings.Cut(name, ".")
	for _, ip := range t.hosts[service] {
		if label(ip) == first {
			return []net.IP{ip}
		}
	}
	return nil
}

// has reports whether a name has records.
func (t *table) has(name string) bool { return len(t.addresses(name)) > 0 || len(t.ports[name]) > 0 }
