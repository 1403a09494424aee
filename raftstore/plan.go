package raftstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unique"

	"slipway/api"
	"slipway/raftstore/state"
)

// planFormat is the format that brought plans in the form of encodePlan. A plan is the one
// command that grows with the rack: as JSON a copy takes 150 bytes and 10 µs, so that a million
// would take longer to read than to place.
//
// The form: a table of strings (count, then each with its length), the index of the state, the
// groups, then everything else as JSON. A group is app, service, release (places in the table),
// cpu, memory, disk, and its copies; a copy is ID, slot, node (place), attempt, cause (place) and
// its grant as JSON, empty for none. All numbers are varints of encoding/binary, those that may
// be below zero zig-zag.
const planFormat = 2

// planWriter collects the strings of a plan while the rest is written.
type planWriter struct {
	b      []byte
	places map[string]uint64
	table  []byte
}

func (w *planWriter) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *planWriter) signed(n int64)  { w.b = binary.AppendVarint(w.b, n) }

func (w *planWriter) text(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

// place writes where a string stands in the table.
func (w *planWriter) place(s string) {
	at, ok := w.places[s]
	if !ok {
		at = uint64(len(w.places))
		w.places[s] = at
		w.table = binary.AppendUvarint(w.table, uint64(len(s)))
		w.table = append(w.table, s...)
	}
	w.number(at)
}

// encodePlan writes a plan.
func encodePlan(p state.ApplyPlan) ([]byte, error) {
	copies := 0
	for i := range p.Place {
		copies += len(p.Place[i].Copies)
	}
	w := &planWriter{places: make(map[string]uint64, copies), table: make([]byte, 0, 8*copies), b: make([]byte, 0, 20*copies+64)}
	w.number(p.Index)
	w.number(uint64(len(p.Place)))
	for i := range p.Place {
		if err := w.group(&p.Place[i]); err != nil {
			return nil, err
		}
	}
	p.Index, p.Place = 0, nil
	rest, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	out := binary.AppendUvarint(make([]byte, 0, len(w.table)+len(w.b)+len(rest)+16), uint64(len(w.places)))
	out = append(out, w.table...)
	out = append(out, w.b...)
	return append(out, rest...), nil
}

func (w *planWriter) group(g *api.Group) error {
	w.place(string(g.Key.App))
	w.place(string(g.Key.Service))
	w.place(string(g.Release))
	w.signed(int64(g.Ask.CPU))
	w.signed(int64(g.Ask.Memory))
	w.signed(int64(g.Ask.Disk))
	w.number(uint64(len(g.Copies)))
	for i := range g.Copies {
		c := &g.Copies[i]
		w.text(string(c.ID))
		w.signed(int64(c.Slot))
		w.place(string(c.Node))
		w.signed(int64(c.Attempt))
		w.place(c.Cause)
		if c.Grant == nil {
			w.number(0)
			continue
		}
		doc, err := json.Marshal(c.Grant)
		if err != nil {
			return err
		}
		w.text(string(doc))
	}
	return nil
}

// errPlan is what a body is that encodePlan has not written.
var errPlan = errors.New("the plan is cut off or damaged")

// planReader reads a plan; after the first error it reads nothing more.
type planReader struct {
	b     []byte
	table []string
	err   error
	// cause is the last one that was read: copies in a row have the same.
	cause string
}

func (r *planReader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	r.skip(size)
	return n
}

func (r *planReader) signed() int64 {
	n, size := binary.Varint(r.b)
	r.skip(size)
	return n
}

// skip goes on behind a number, which is 0 where there is none.
func (r *planReader) skip(size int) {
	if size <= 0 {
		r.err, r.b = errPlan, nil
		return
	}
	r.b = r.b[size:]
}

// count reads how many of something follow, each of which takes at least size bytes.
func (r *planReader) count(size int) int {
	n := r.number()
	if n > uint64(len(r.b)/size) {
		r.err = errPlan
		return 0
	}
	return int(n)
}

func (r *planReader) text() []byte {
	n := r.count(1)
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

func (r *planReader) place() string {
	n := r.number()
	if n >= uint64(len(r.table)) {
		r.err = errPlan
		return ""
	}
	return r.table[n]
}

// decodePlan reads a plan. Its names are parts of one string, which lives as long as the plan:
// Apply keeps those of its own records. Causes, which it keeps, are one string in all plans.
func decodePlan(b []byte) (state.ApplyPlan, error) {
	r := &planReader{b: b}
	r.names()
	var p state.ApplyPlan
	index := r.number()
	var groups []api.Group
	for n := r.count(7); n > 0 && r.err == nil; n-- {
		groups = append(groups, r.group())
	}
	if r.err != nil {
		return p, r.err
	}
	if err := unmarshalWhole(r.b, &p); err != nil {
		return p, fmt.Errorf("%w: %w", errPlan, err)
	}
	p.Index, p.Place = index, groups
	return p, nil
}

// names reads the table of strings.
func (r *planReader) names() {
	n := r.count(1)
	begin := r.b
	ends := make([]int, 0, n)
	for ; n > 0; n-- {
		r.text()
		ends = append(ends, len(begin)-len(r.b))
	}
	if r.err != nil {
		return
	}
	all, at := string(begin[:len(begin)-len(r.b)]), 0
	r.table = make([]string, len(ends))
	for i, end := range ends {
		_, size := binary.Uvarint(begin[at:])
		r.table[i], at = all[at+size:end], end
	}
}

// reason reads the cause of a copy.
func (r *planReader) reason() string {
	if s := r.place(); s != r.cause {
		r.cause = unique.Make(strings.Clone(s)).Value()
	}
	return r.cause
}

func (r *planReader) group() api.Group {
	g := api.Group{
		Key: api.ServiceKey{App: api.AppName(r.place()), Service: api.ServiceName(r.place())}, Release: api.ReleaseID(r.place()),
		Ask: api.Amount{CPU: api.MilliCPU(r.signed()), Memory: api.Bytes(r.signed()), Disk: api.Bytes(r.signed())},
	}
	n := r.count(6)
	if r.err != nil {
		return g
	}
	g.Copies = make([]api.Copy, 0, n)
	for ; n > 0 && r.err == nil; n-- {
		g.Copies = append(g.Copies, api.Copy{ID: api.ProcessID(r.text()), Slot: int(r.signed()), Node: api.NodeID(r.place()), Attempt: int(r.signed()), Cause: r.reason()})
		if doc := r.text(); len(doc) > 0 && r.err == nil {
			if err := unmarshalWhole(doc, &g.Copies[len(g.Copies)-1].Grant); err != nil {
				r.err = fmt.Errorf("%w: %w", errPlan, err)
			}
		}
	}
	return g
}
