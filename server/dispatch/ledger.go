package dispatch

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"slipway/api/pb"
)

// journal is what changed lately in a table that many hold copies of, so that somebody who has an
// older copy is told of the difference only.
type journal[K comparable] struct {
	at     uint64 // number of the last change; 0 for a table that was never filled
	digest digest // of what is in the table
	recent []K    // of the last changes, oldest first; the last one is change number at
}

// knows returns the number of the last change to who knows the table by its digest; else 0.
func (j *journal[K]) knows(d digest) uint64 {
	if d == 0 || d != j.digest {
		return 0
	}
	return j.at
}

// digest stands for the content of a table, whatever order it was filled in: the sum of the first eight
// bytes of the SHA-256 of each record.
type digest uint64

func (d *digest) add(record ...[]byte)  { *d += hash(record) }
func (d *digest) take(record ...[]byte) { *d -= hash(record) }

// hash hashes texts so that no two lists of them are alike.
func hash(record [][]byte) digest {
	h := sha256.New()
	for _, part := range record {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return digest(binary.BigEndian.Uint64(h.Sum(nil)))
}

// recentMax is how many changes a journal remembers at least.
const recentMax = 1 << 15

func (j *journal[K]) note(k K) {
	j.at++
	if len(j.recent) == 2*recentMax {
		j.recent = append(j.recent[:0], j.recent[recentMax:]...)
	}
	j.recent = append(j.recent, k)
}

// fill begins a journal with the table as it is: whoever holds a copy of before needs all.
func (j *journal[K]) fill() {
	j.at++
	j.recent = nil
}

// since returns what changed after change number at, each once, in order; false when that is not known
// any more, or so much that telling all that there are costs less.
func (j *journal[K]) since(at uint64, all int, compare func(a, b K) int) ([]K, bool) {
	n := j.at - at
	if at == 0 || at > j.at || n > uint64(len(j.recent)) {
		return nil, false
	}
	keys := slices.Clone(j.recent[uint64(len(j.recent))-n:])
	slices.SortFunc(keys, compare)
	keys = slices.Compact(keys)
	return keys, len(keys) <= all/2+1
}

// peers are the nodes that others may see, by ID.
type peers struct {
	journal[string]
	all map[string]*pb.Peer
}

// put stores a node.
func (p *peers) put(id string, peer *pb.Peer) {
	if p.all == nil {
		p.all = map[string]*pb.Peer{}
	}
	if old := p.all[id]; old != nil {
		p.digest.take(record(old)...)
	}
	p.digest.add(record(peer)...)
	p.all[id] = peer
	p.note(id)
}

func record(p *pb.Peer) [][]byte { return [][]byte{[]byte(p.Node), []byte(p.Addr), []byte(p.Subnet)} }

// drop removes a node, if it is there.
func (p *peers) drop(id string) {
	if old := p.all[id]; old != nil {
		p.digest.take(record(old)...)
		delete(p.all, id)
		p.note(id)
	}
}

// changes returns what changed after change number at; false when that is not known.
func (p *peers) changes(at uint64) (*pb.Peers, bool) {
	ids, ok := p.since(at, len(p.all), strings.Compare)
	return p.message(ids, true), ok
}

// whole returns all peers.
func (p *peers) whole() *pb.Peers { return p.message(slices.Sorted(maps.Keys(p.all)), false) }

func (p *peers) message(ids []string, change bool) *pb.Peers {
	list := &pb.PeerList{}
	for _, id := range ids {
		peer := p.all[id]
		if peer == nil {
			peer = &pb.Peer{Node: id}
		}
		list.Peer = append(list.Peer, peer)
	}
	b, _ := proto.Marshal(list) // fails for text that is not UTF-8 only, which no record holds
	return &pb.Peers{Change: change, List: b, Digest: uint64(p.digest)}
}

// names are the endpoints of services, in order, by "service.app".
type names struct {
	journal[listing]
	all  map[string][]netip.AddrPort
	size int // of all lists together
}

// listing is an endpoint of a name.
type listing struct {
	name string
	at   netip.AddrPort
}

func (l listing) compare(m listing) int {
	return cmp.Or(strings.Compare(l.name, m.name), l.at.Compare(m.at))
}

// set stores the endpoints of a name, in order.
func (n *names) set(name string, now []netip.AddrPort) {
	was := n.all[name]
	n.size += len(now) - len(was)
	for i, j := 0, 0; i < len(was) || j < len(now); {
		switch {
		case j == len(now) || i < len(was) && was[i].Compare(now[j]) < 0:
			n.digest.take([]byte(name), pb.PackEndpoints(was[i:i+1]))
			n.note(listing{name, was[i]})
			i++
		case i == len(was) || was[i] != now[j]:
			n.digest.add([]byte(name), pb.PackEndpoints(now[j:j+1]))
			n.note(listing{name, now[j]})
			j++
		default:
			i, j = i+1, j+1
		}
	}
	if len(now) == 0 {
		delete(n.all, name)
		return
	}
	if n.all == nil {
		n.all = map[string][]netip.AddrPort{}
	}
	n.all[name] = now
}

// changes returns what changed after change number at; false when that is not known.
func (n *names) changes(at uint64) (*pb.Names, bool) {
	list, ok := n.since(at, n.size, listing.compare)
	out := &pb.Names{Change: true, Digest: uint64(n.digest)}
	for len(list) > 0 {
		name := list[0].name
		var added, removed []netip.AddrPort
		for ; len(list) > 0 && list[0].name == name; list = list[1:] {
			if _, is := slices.BinarySearchFunc(n.all[name], list[0].at, netip.AddrPort.Compare); is {
				added = append(added, list[0].at)
			} else {
				removed = append(removed, list[0].at)
			}
		}
		out.Name = append(out.Name, &pb.Name{Name: name, Added: pb.PackEndpoints(added), Removed: pb.PackEndpoints(removed)})
	}
	return out, ok
}

// whole returns all names.
func (n *names) whole() *pb.Names {
	out := &pb.Names{Digest: uint64(n.digest)}
	for _, name := range slices.Sorted(maps.Keys(n.all)) {
		out.Name = append(out.Name, &pb.Name{Name: name, Added: pb.PackEndpoints(n.all[name])})
	}
	return out
}
