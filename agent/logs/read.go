package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/api"
	"slipway/runtime/logfmt"
)

// How a reader works.
const (
	batchMax  = 256 // lines handed over at once
	pollEvery = 30 * time.Millisecond
	scanEvery = 250 * time.Millisecond // for new processes
)

// source is one log of one process.
type source struct {
	process process
	system  bool
	reader  *logfmt.Reader
	after   uint64       // lines up to this one are known already
	next    *api.LogLine // read but not delivered
}

// Read sends the lines that a query asks for, in batches, oldest first: all there are, and with
// q.Follow those to come until ctx ends. Lines of processes that appear meanwhile are among
// them.
func (s *Store) Read(ctx context.Context, q api.LogQuery, send func([]api.LogLine) error) error {
	r := &reading{store: s, query: q, open: map[string]*source{}, send: send}
	defer r.close()
	if err := r.scan(); err != nil {
		return err
	}
	if err := r.deliver(ctx); err != nil || !q.Follow {
		return err
	}
	poll, scanned := time.NewTicker(pollEvery), time.Now()
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		}
		if time.Since(scanned) > scanEvery {
			scanned = time.Now()
			if err := r.scan(); err != nil {
				return err
			}
		}
		if err := r.deliver(ctx); err != nil {
			return err
		}
	}
}

// reading is one call of Read.
type reading struct {
	store *Store
	query api.LogQuery
	open  map[string]*source
	send  func([]api.LogLine) error
}

func (r *reading) close() {
	for _, s := range r.open {
		s.reader.Close()
	}
}

// scan opens the logs that are not open yet.
func (r *reading) scan() error {
	list, err := r.store.matching(r.query)
	if err != nil {
		return err
	}
	for _, p := range list {
		for _, name := range []string{"out", "system"} {
			dir := filepath.Join(r.store.root, string(p.ID), name)
			if r.open[dir] != nil {
				continue
			}
			src := &source{process: p, system: name == "system", reader: logfmt.NewReader(dir)}
			since := r.query.Since
			if mark, ok := r.query.After[api.LogName(p.ID, src.system)]; ok {
				since, src.after = mark.At, mark.Seq
			}
			if !since.IsZero() {
				if err := src.reader.SeekTime(since); err != nil && !errors.Is(err, io.EOF) {
					return fmt.Errorf("log of process %s: %w", p.ID, err)
				}
			}
			r.open[dir] = src
		}
	}
	return nil
}

// deliver sends everything that is there, merged by time.
func (r *reading) deliver(ctx context.Context) error {
	var active []*source
	for _, s := range r.open {
		if err := s.advance(&r.query); err != nil {
			return err
		}
		if s.next != nil {
			active = append(active, s)
		}
	}
	var batch []api.LogLine
	for len(active) > 0 && ctx.Err() == nil {
		first := slices.MinFunc(active, func(a, b *source) int { return a.next.At.Compare(b.next.At) })
		batch = append(batch, *first.next)
		first.next = nil
		if err := first.advance(&r.query); err != nil {
			return err
		}
		if first.next == nil {
			active = slices.DeleteFunc(active, func(s *source) bool { return s == first })
		}
		if len(batch) == batchMax {
			if err := r.send(batch); err != nil {
				return err
			}
			batch = nil
		}
	}
	if len(batch) > 0 {
		return r.send(batch)
	}
	return ctx.Err()
}

// advance reads up to the next line that the query asks for, if there is one.
func (s *source) advance(q *api.LogQuery) error {
	for s.next == nil {
		e, err := s.reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("log of process %s: %w", s.process.ID, err)
		}
		if e.Seq <= s.after {
			continue
		}
		line := api.LogLine{
			At: e.Time, App: s.process.App, Service: s.process.Service, Process: s.process.ID,
			Stream: e.Stream.String(), Text: string(e.Text), Seq: e.Seq,
		}
		if e.Stream == logfmt.Dropped {
			line.Stream, line.Dropped = "system", int(e.Missing)
			line.Text = fmt.Sprintf("%d lines are missing here", e.Missing)
		} else if s.system {
			line.Stream = "system"
		}
		if q.Filter == "" || strings.Contains(line.Text, q.Filter) || line.Dropped > 0 {
			s.next = &line
		}
	}
	return nil
}
