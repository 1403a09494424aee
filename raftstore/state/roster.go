package state

import (
	"iter"
	"math/bits"
	"slices"

	"slipway/api"
)

// roster is a set of processes in the order of their IDs: all of the rack, those of a service, or
// those that live on a node. It is a B-tree with all processes in its leaves. As with a table, a
// view never changes its rosters: a change copies the pages that it writes to, once, and owns
// those that carry its tx.
//
// It is not a table because a rack has a million processes and each stands in three rosters. An
// entry has no key but a number made of the ID, so that a search compares numbers that lie side by
// side; and IDs that a plan mints ascend, for which pages fill up instead of being cut in half.
type roster struct {
	tx    uint64
	root  *page // nil when empty
	count int
}

// page is a leaf, which has entries, or a branch, which has kids.
type page struct {
	tx      uint64
	entries []entry
	kids    []kid
}

type entry struct {
	code    uint64
	process *api.Process
}

// kid is a page below another, and an ID that none of its own comes before. Only the first kid of
// a branch may have lower ones.
type kid struct {
	code uint64
	id   api.ProcessID
	page *page
}

// pageMax bounds the entries or kids of a page.
const pageMax = 32

// codeLetters is how many letters of an ID a code has room for, of five bits each.
const codeLetters = 12

// codeOf makes a number of an ID that sorts as the ID does, or is equal: lower-case letters count
// as they are, of another byte only on which side of the letters it is, and what follows it does
// not count. IDs that the rack mints differ in their codes.
func codeOf(id api.ProcessID) uint64 {
	code := uint64(0)
	for i := range codeLetters {
		code <<= 5
		if i >= len(id) {
			continue
		}
		switch c := id[i]; {
		case c < 'a':
			return (code | 1) << (5 * (codeLetters - 1 - i))
		case c > 'z':
			return (code | 28) << (5 * (codeLetters - 1 - i))
		default:
			code |= uint64(c-'a') + 2
		}
	}
	return code
}

// seek returns where an ID stands among the entries of a leaf, or would stand.
func (p *page) seek(code uint64, id api.ProcessID) (at int, found bool) {
	lo, hi := 0, len(p.entries)
	for lo < hi {
		mid := (lo + hi) / 2
		if e := &p.entries[mid]; e.code < code || e.code == code && e.process.ID < id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(p.entries) && p.entries[lo].code == code && p.entries[lo].process.ID == id
}

// below returns which kid of a branch an ID belongs to.
func (p *page) below(code uint64, id api.ProcessID) int {
	lo, hi := 1, len(p.kids)
	for lo < hi {
		mid := (lo + hi) / 2
		if k := &p.kids[mid]; k.code < code || k.code == code && k.id <= id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// get returns a process.
func (r *roster) get(id api.ProcessID) (*api.Process, bool) {
	p, code := r.root, codeOf(id)
	if p == nil {
		return nil, false
	}
	for p.kids != nil {
		p = p.kids[p.below(code, id)].page
	}
	at, found := p.seek(code, id)
	if !found {
		return nil, false
	}
	return p.entries[at].process, true
}

// all iterates over the processes.
func (r *roster) all() iter.Seq[*api.Process] {
	return func(yield func(*api.Process) bool) {
		if r.root != nil {
			r.root.each(yield)
		}
	}
}

func (p *page) each(yield func(*api.Process) bool) bool {
	for i := range p.entries {
		if !yield(p.entries[i].process) {
			return false
		}
	}
	for i := range p.kids {
		if !p.kids[i].page.each(yield) {
			return false
		}
	}
	return true
}

// own returns the roster that a change may write to.
func (r *roster) own(tx uint64) *roster {
	if r.tx == tx {
		return r
	}
	return &roster{tx: tx, root: r.root, count: r.count}
}

// own returns the page that a change may write to, with room for one more.
func (p *page) own(tx uint64) *page {
	if p.tx == tx {
		return p
	}
	q := &page{tx: tx}
	if p.kids != nil {
		q.kids = append(make([]kid, 0, roomFor(len(p.kids))), p.kids...)
	} else {
		q.entries = append(make([]entry, 0, roomFor(len(p.entries))), p.entries...)
	}
	return q
}

// roomFor is the capacity of a page that is about to have one more than n: 4, 8, 16 or pageMax.
func roomFor(n int) int { return min(pageMax, max(4, 1<<bits.Len(uint(n)))) }

// insert puts x at a place of a slice that has less than pageMax.
func insert[T any](all []T, at int, x T) []T {
	if n := len(all); n == cap(all) {
		all = append(make([]T, 0, roomFor(n)), all...)
	}
	all = all[:len(all)+1]
	copy(all[at+1:], all[at:])
	all[at] = x
	return all
}

// put enters a process, or replaces the one with its ID, in a roster that the change owns.
func (r *roster) put(p *api.Process) {
	if r.root == nil {
		r.root = &page{tx: r.tx}
	}
	r.root = r.root.own(r.tx)
	if next := r.root.put(r, entry{codeOf(p.ID), p}); next.page != nil {
		r.root = &page{tx: r.tx, kids: append(make([]kid, 0, roomFor(1)), kid{page: r.root}, next)}
	}
}

// put enters a process below a page, and returns the page that splits off, if one does.
func (p *page) put(r *roster, e entry) kid {
	if p.kids == nil {
		return p.putEntry(r, e)
	}
	at := p.below(e.code, e.process.ID)
	below := p.kids[at].page.own(r.tx)
	p.kids[at].page = below
	next := below.put(r, e)
	if next.page == nil {
		return kid{}
	}
	left, right := insertOrCut(p.kids, at+1, next)
	p.kids = left
	if right == nil {
		return kid{}
	}
	return kid{right[0].code, right[0].id, &page{tx: r.tx, kids: right}}
}

// putEntry does that in a leaf.
func (p *page) putEntry(r *roster, e entry) kid {
	at, found := p.seek(e.code, e.process.ID)
	if found {
		p.entries[at] = e
		return kid{}
	}
	r.count++
	left, right := insertOrCut(p.entries, at, e)
	p.entries = left
	if right == nil {
		return kid{}
	}
	return kid{right[0].code, right[0].process.ID, &page{tx: r.tx, entries: right}}
}

// insertOrCut puts x at a place of what a page has. A full page is cut in half first, or, when x
// comes last, stays full beside one that has only x.
func insertOrCut[T any](all []T, at int, x T) (left, right []T) {
	switch {
	case len(all) < pageMax:
		return insert(all, at, x), nil
	case at == pageMax:
		return all, insert[T](nil, 0, x)
	}
	cut := pageMax / 2
	right = append(make([]T, 0, pageMax), all[cut:]...)
	clear(all[cut:])
	if left = all[:cut]; at <= cut {
		return insert(left, at, x), right
	}
	return left, insert(right, at-cut, x)
}

// drop takes a process out of a roster that the change owns, if it is there.
func (r *roster) drop(id api.ProcessID) {
	if _, ok := r.get(id); !ok {
		return
	}
	r.root = r.root.own(r.tx)
	r.root.drop(r.tx, codeOf(id), id)
	r.count--
	for len(r.root.kids) == 1 {
		r.root = r.root.kids[0].page
	}
	if r.count == 0 {
		r.root = nil
	}
}

// drop takes a process that is there out of what is below a page.
func (p *page) drop(tx uint64, code uint64, id api.ProcessID) {
	if p.kids == nil {
		at, _ := p.seek(code, id)
		p.entries = slices.Delete(p.entries, at, at+1)
		return
	}
	at := p.below(code, id)
	below := p.kids[at].page.own(tx)
	p.kids[at].page = below
	below.drop(tx, code, id)
	switch {
	case below.size() == 0:
		p.kids = slices.Delete(p.kids, at, at+1)
	case below.size() > pageMax/4:
	case at > 0:
		p.join(tx, at-1)
	case len(p.kids) > 1:
		p.join(tx, at)
	}
}

func (p *page) size() int { return len(p.entries) + len(p.kids) }

// join makes one page of a kid and the next one, if they fit well.
func (p *page) join(tx uint64, at int) {
	next := p.kids[at+1]
	if p.kids[at].page.size()+next.page.size() > pageMax*3/4 {
		return
	}
	left := p.kids[at].page.own(tx)
	left.entries = append(left.entries, next.page.entries...)
	if first := len(left.kids); next.page.kids != nil {
		left.kids = append(left.kids, next.page.kids...)
		left.kids[first].code, left.kids[first].id = next.code, next.id
	}
	p.kids[at].page = left
	p.kids = slices.Delete(p.kids, at+1, at+2)
}
