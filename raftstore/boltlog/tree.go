package boltlog

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// carry brings all that is in memory into the tree, does more in the same transaction, and begins
// the journal anew. The caller has waited. A number is left out: a frame that has it was refused
// by the disk, or never written, and must not count when what came after it is gone.
func (l *Log) carry(more func(*bbolt.Bucket) error) error {
	upTo := l.journal.number + 1
	if err := l.commit(upTo, more); err != nil {
		return err
	}
	l.journal.restart(upTo)
	return l.bounds()
}

// bounds reads the first and last index from the tree, which has all.
func (l *Log) bounds() error {
	var first, last uint64
	err := l.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketLogs).Cursor()
		if k, _ := c.First(); k != nil {
			first = number(k)
		}
		if k, _ := c.Last(); k != nil {
			last = number(k)
		}
		return nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.last = first, last
	return err
}

// commit is one transaction: what is in memory up to a frame, then what more does.
func (l *Log) commit(upTo uint64, more func(*bbolt.Bucket) error) error {
	var indexes []uint64
	l.mu.RLock()
	for i, h := range l.recent {
		if h.frame <= upTo {
			indexes = append(indexes, i)
		}
	}
	slices.Sort(indexes)
	entries := make([]raft.Log, len(indexes))
	for i, index := range indexes {
		entries[i] = l.recent[index].Log
	}
	l.mu.RUnlock()
	err := l.disk.Commit(func() error {
		return l.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketLogs)
			b.FillPercent = 0.95 // keys only rise
			if err := putAll(b, entries); err != nil {
				return err
			}
			if more != nil {
				if err := more(b); err != nil {
					return err
				}
			}
			if err := putValues(tx, &l.values); err != nil {
				return err
			}
			return tx.Bucket(bucketJournal).Put(keyApplied, key(upTo))
		})
	})
	if err != nil {
		return l.fail(err)
	}
	l.mu.Lock()
	for _, i := range indexes {
		if l.recent[i].frame <= upTo { // else there is a newer entry in its place
			delete(l.recent, i)
		}
	}
	l.carriedTo = upTo
	l.mu.Unlock()
	l.reserve.renew(time.Now())
	return nil
}

// fail keeps an error after which nothing is known of the disk; a disk without room is none.
func (l *Log) fail(err error) error {
	if full(err) {
		l.reserve.refuse(time.Now())
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
	return err
}

// full reports whether a disk took nothing because it has no room.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// putValues brings the values into the tree, if it has not got them.
func putValues(tx *bbolt.Tx, v *values) error {
	all, generation := v.present()
	if number(tx.Bucket(bucketJournal).Get(keyGeneration)) == generation {
		return nil
	}
	for k, value := range all {
		if err := tx.Bucket(bucketStable).Put([]byte(k), value); err != nil {
			return err
		}
	}
	return tx.Bucket(bucketJournal).Put(keyGeneration, key(generation))
}

func putAll(b *bbolt.Bucket, entries []raft.Log) error {
	for i := range entries {
		if err := b.Put(key(entries[i].Index), appendEntry(nil, &entries[i])); err != nil {
			return err
		}
	}
	return nil
}

// Fits reports whether the log is of the same history as a snapshot that ends with entry index of
// term: it has that entry, or nothing at all up to there.
func (l *Log) Fits(index, term uint64) bool {
	l.mu.RLock()
	first, last := l.first, l.last
	l.mu.RUnlock()
	var e raft.Log
	return last == 0 || index < first || l.GetLog(index, &e) == nil && e.Term == term
}

// Anchor makes the log fit such a snapshot: what it has up to there is removed. An empty entry
// stays in place of the last one, for what is behind it to be compared with.
func (l *Log) Anchor(index, term uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.Fits(index, term) {
		return nil
	}
	first, _ := l.FirstIndex()
	last, _ := l.LastIndex()
	defer l.running.begin()()
	l.wait()
	err := l.Failed()
	if err == nil {
		err = l.carry(func(b *bbolt.Bucket) error {
			if err := deleteRange(b, first, index); err != nil || index > last {
				return err
			}
			return putAll(b, []raft.Log{{Index: index, Term: term, Type: raft.LogNoop, AppendedAt: time.Unix(0, 0)}})
		})
	}
	if err != nil {
		return fmt.Errorf("fit raft log to a snapshot at %d: %w", index, err)
	}
	l.anchor = index
	return nil
}
