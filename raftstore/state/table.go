package state

import (
	"iter"
	"slices"
	"strings"

	"github.com/tidwall/btree"

	"slipway/api"
)

// table is a map in key order. A view never changes its tables: the first write of a change
// makes a copy, which shares everything but the path that is written, and further writes of the
// same change go to that copy. tx tells whose it is.
type table[V any] struct {
	tree *btree.BTreeG[record[V]]
	tx   uint64
}

type record[V any] struct {
	key   string
	value V
}

func newTable[V any]() *table[V] {
	less := func(a, b record[V]) bool { return a.key < b.key }
	return &table[V]{tree: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})}
}

// get returns the value of a key.
func (t *table[V]) get(key string) (V, bool) {
	r, ok := t.tree.Get(record[V]{key: key})
	return r.value, ok
}

// all iterates over the records whose keys have a prefix.
func (t *table[V]) all(prefix string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		t.tree.Ascend(record[V]{key: prefix}, func(r record[V]) bool {
			return strings.HasPrefix(r.key, prefix) && yield(r.key, r.value)
		})
	}
}

// len counts the records, first returns the lowest key.
func (t *table[V]) len() int { return t.tree.Len() }

func (t *table[V]) first() (string, bool) {
	r, ok := t.tree.Min()
	return r.key, ok
}

// own returns the table that a change may write to.
func (t *table[V]) own(tx uint64) *table[V] {
	if t.tx == tx {
		return t
	}
	return &table[V]{tree: t.tree.Copy(), tx: tx}
}

// put sets a key in a table of a change.
func put[V any](c *change, t **table[V], key string, v V) {
	c.wrote, *t = true, (*t).own(c.tx)
	(*t).tree.Set(record[V]{key, v})
}

// drop removes a key from a table of a change.
func drop[V any](c *change, t **table[V], key string) {
	if _, ok := (*t).get(key); ok {
		c.wrote, *t = true, (*t).own(c.tx)
		(*t).tree.Delete(record[V]{key: key})
	}
}

// set puts or drops a key of an index.
func set(c *change, t **table[string], in bool, key, id string) {
	if in {
		put(c, t, key, id)
	} else {
		drop(c, t, key)
	}
}

// values iterates over the values whose keys have a prefix.
func values[V any](t *table[V], prefix string) iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, v := range t.all(prefix) {
			if !yield(v) {
				return
			}
		}
	}
}

// joined iterates over an index and yields what its values name.
func joined[V any](index *table[string], prefix string, t *table[V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		for id := range values(index, prefix) {
			if v, ok := t.get(id); ok && !yield(v) {
				return
			}
		}
	}
}

// enlist enters a process into one of many rosters, or takes it out, and returns that roster.
func enlist(c *change, t **table[*roster], in bool, name string, p *api.Process) *roster {
	r, ok := (*t).get(name)
	switch {
	case ok && r.tx == c.tx:
	case ok:
		r = r.own(c.tx)
		put(c, t, name, r)
	case in:
		r = &roster{tx: c.tx}
		put(c, t, name, r)
	default:
		return nil
	}
	if in {
		r.put(p)
	} else if r.drop(p.ID); r.count == 0 {
		drop(c, t, name)
	}
	return r
}

// slotMax bounds the slots of a service: a tally has a bit for each.
const slotMax = 1 << 24

// tally is what a service has alive of one release and means to keep.
type tally struct {
	tx    uint64
	count int
	slots []uint64 // a bit per slot
}

func (t *tally) has(slot int) bool {
	return slot >= 0 && slot/64 < len(t.slots) && t.slots[slot/64]&(1<<(slot%64)) != 0
}

func tallyKey(k api.ServiceKey, r api.ReleaseID) string { return k.String() + "\x00" + string(r) }

// tallyOf returns the tally of a release of a service.
func (v *View) tallyOf(key string) *tally {
	if t, ok := v.tallies.get(key); ok {
		return t
	}
	return &tally{}
}

// ownTally returns the tally that a change may write to; keepTally keeps what became of it.
func (c *change) ownTally(key string) *tally {
	t := c.tallyOf(key)
	if t.tx != c.tx {
		t = &tally{tx: c.tx, count: t.count, slots: slices.Clone(t.slots)}
	}
	return t
}

func (c *change) keepTally(key string, t *tally) {
	if t.count == 0 {
		drop(c, &c.tallies, key)
	} else if known, ok := c.tallies.get(key); !ok || known != t {
		put(c, &c.tallies, key, t)
	}
}

// add enters a slot (sign 1), or takes it out (sign -1).
func (t *tally) add(slot, sign int) {
	for len(t.slots) <= slot/64 {
		t.slots = append(t.slots, 0)
	}
	bit := uint64(1) << (slot % 64)
	if t.count += sign; sign > 0 {
		t.slots[slot/64] |= bit
	} else {
		t.slots[slot/64] &^= bit
	}
}

// count enters a process into the tally of its release (sign 1), or takes it out (sign -1).
func (c *change) count(p *api.Process, sign int) {
	if p.Kind != api.KindService || !p.Live() || p.Desired != api.DesiredRun || p.Slot < 1 || p.Slot > slotMax {
		return
	}
	key := tallyKey(p.Key(), p.Release)
	t := c.ownTally(key)
	t.add(p.Slot, sign)
	c.keepTally(key, t)
}
