package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"slipway/api"
	"slipway/runtime/logfmt"
)

// What is kept of processes that have ended.
const (
	keepEnded = 7 * 24 * time.Hour
	systemMax = 256 << 10 // bytes of the agent's own words per process
	// completeMax and completeQuiet bound the wait for the last lines of a process.
	completeMax   = 2 * time.Second
	completeQuiet = 100 * time.Millisecond
	describedIn   = "process.json"
)

// Store is the logs of one node.
type Store struct {
	root string

	mu      sync.Mutex
	systems map[api.ProcessID]*logfmt.Writer
}

// process describes whose log a directory holds.
type process struct {
	ID      api.ProcessID   `json:"id"`
	App     api.AppName     `json:"app"`
	Service api.ServiceName `json:"service"`
}

// Open opens the logs below root.
func Open(root string) (*Store, error) {
	if err := os.MkdirAll(root, 0o750); err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	return &Store{root: root, systems: map[api.ProcessID]*logfmt.Writer{}}, nil
}

// Close ends the agent's own logs.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, w := range s.systems {
		w.Close(false)
		delete(s.systems, id)
	}
}

// Dir makes the log of a process and returns where its output is to be written.
func (s *Store) Dir(id api.ProcessID, app api.AppName, service api.ServiceName) (string, error) {
	dir := filepath.Join(s.root, string(id))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("log of process %s: %w", id, err)
	}
	doc, err := json.Marshal(process{ID: id, App: app, Service: service})
	if err != nil {
		return "", fmt.Errorf("log of process %s: %w", id, err)
	}
	if err := os.WriteFile(filepath.Join(dir, describedIn), doc, 0o640); err != nil {
		return "", fmt.Errorf("log of process %s: %w", id, err)
	}
	return filepath.Join(dir, "out"), nil
}

// System writes a line of the agent's own. It is dropped when the process has no log.
func (s *Store) System(id api.ProcessID, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.systems[id]
	if w == nil {
		dir := filepath.Join(s.root, string(id))
		if _, err := os.Stat(dir); err != nil {
			return
		}
		w, _ = logfmt.NewWriter(filepath.Join(dir, "system"), systemMax) // writes as soon as it can
		s.systems[id] = w
	}
	w.Write(logfmt.Stdout, time.Now(), []byte(text+"\n"))
}

// Ended closes the agent's own log of a process.
func (s *Store) Ended(id api.ProcessID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.systems[id]; w != nil {
		w.Close(true)
		delete(s.systems, id)
	}
}

// Complete waits until what an ended process wrote is in its log: the log writer is a process of
// its own, and may lag behind. It marks the end only when the container is removed, so that a
// silence counts as well, and in any case completeMax.
func (s *Store) Complete(ctx context.Context, id api.ProcessID) {
	dir := filepath.Join(s.root, string(id), "out")
	if _, err := os.Stat(dir); err != nil {
		return // attached to a user, or never started
	}
	ctx, cancel := context.WithTimeout(ctx, completeMax)
	defer cancel()
	r := logfmt.NewReader(dir)
	defer r.Close()
	if err := r.SeekTail(1); err != nil {
		return
	}
	silence := time.AfterFunc(completeQuiet, cancel)
	defer silence.Stop()
	for range r.Follow(ctx) {
		silence.Reset(completeQuiet)
	}
}

// Tail returns the last n lines that a process wrote, oldest first.
func (s *Store) Tail(id api.ProcessID, n int) []string {
	r := logfmt.NewReader(filepath.Join(s.root, string(id), "out"))
	defer r.Close()
	if err := r.SeekTail(n); err != nil {
		return nil
	}
	var lines []string
	for {
		e, err := r.Next()
		if err != nil {
			return lines
		}
		if e.Stream != logfmt.Dropped {
			lines = append(lines, string(e.Text))
		}
	}
}

// Collect removes the logs of processes that are not known and were last written to long ago.
func (s *Store) Collect(known map[api.ProcessID]bool, now time.Time) error {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	var failed error
	for _, e := range entries {
		id := api.ProcessID(e.Name())
		info, err := newest(filepath.Join(s.root, e.Name()))
		if known[id] || err != nil || now.Sub(info) < keepEnded {
			continue
		}
		s.Ended(id)
		failed = errors.Join(failed, os.RemoveAll(filepath.Join(s.root, e.Name())))
	}
	return failed
}

// Size is how much the logs take, in bytes. What goes away meanwhile is not counted.
func (s *Store) Size() float64 {
	var total int64
	_ = filepath.WalkDir(s.root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return float64(total)
}

// newest is when anything below dir was last written.
func newest(dir string) (at time.Time, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(at) {
			at = info.ModTime()
		}
		return err
	})
	return at, err
}

// matching lists the processes whose lines a query asks for, in ID order.
func (s *Store) matching(q api.LogQuery) ([]process, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var out []process
	for _, e := range entries {
		if q.Process != "" && e.Name() != string(q.Process) {
			continue
		}
		var p process
		b, err := os.ReadFile(filepath.Join(s.root, e.Name(), describedIn))
		if err != nil || json.Unmarshal(b, &p) != nil {
			continue // being made, or removed
		}
		if p.App == q.App && (q.Service == "" || p.Service == q.Service) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b process) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out, nil
}
