package dispatch

import "slices"

// ledger is a table that many hold copies of: its records, and which of them changed lately, so
// that somebody who has an older copy is told of the difference only.
type ledger[V any] struct {
	at     uint64 // number of the last change; 0 for a ledger that was never filled
	all    map[string]V
	recent []string // keys of the last changes, oldest first; the last one is change number at
}

// recentMax is how many changes a ledger remembers at least.
const recentMax = 4096

// put stores a record.
func (l *ledger[V]) put(key string, v V) {
	if l.all == nil {
		l.all = map[string]V{}
	}
	l.all[key] = v
	l.note(key)
}

// drop removes a record, if there is one.
func (l *ledger[V]) drop(key string) {
	if _, ok := l.all[key]; ok {
		delete(l.all, key)
		l.note(key)
	}
}

func (l *ledger[V]) note(key string) {
	l.at++
	if len(l.recent) == 2*recentMax {
		l.recent = append(l.recent[:0], l.recent[recentMax:]...)
	}
	l.recent = append(l.recent, key)
}

// fill begins a ledger with the records that were put: whoever holds a copy of before needs all.
func (l *ledger[V]) fill() {
	l.at++
	l.recent = nil
}

// since returns which records changed after change number at, in order; false when that is not
// known any more, or so much that telling everything costs less.
func (l *ledger[V]) since(at uint64) (keys []string, ok bool) {
	n := l.at - at
	if at == 0 || at > l.at || n > uint64(len(l.recent)) {
		return nil, false
	}
	keys = slices.Clone(l.recent[uint64(len(l.recent))-n:])
	slices.Sort(keys)
	keys = slices.Compact(keys)
	return keys, len(keys) <= len(l.all)/2+1
}
