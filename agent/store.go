package agent

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"slipway/api"
)

// The layout of the store:
//
//	node       → id            the node's identity, made once
//	node       → cluster       the rack that it belongs to
//	node       → disk          disk{size of the file system, what of it is the rack's}
//	processes  → <process ID>  record{Assignment without secrets, Local}
//	routes     → table         the newest route table
//	routes     → names         the newest addresses that DNS answers with, as JSON
var (
	bucketNode      = []byte("node")
	bucketProcesses = []byte("processes")
	bucketRoutes    = []byte("routes")
)

// store keeps what an agent must know after a restart.
type store struct{ db *bbolt.DB }

// record is one process in the store.
type record struct {
	Assignment api.Assignment `json:"assignment"`
	Local      Local          `json:"local"`
}

// batchDelay is how long a write waits for others to share its fsync.
const batchDelay = 500 * time.Microsecond

// openStore opens or creates the store in dir. A second agent on the same directory gets an
// error instead of waiting.
func openStore(dir string) (*store, error) {
	path := filepath.Join(dir, "agent.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, NoFreelistSync: true})
	if err != nil {
		return nil, api.Errorf(api.CodeConflict, "open agent store %s: %w; is another agent running with this directory?", path, err)
	}
	db.MaxBatchDelay = batchDelay
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketNode, bucketProcesses, bucketRoutes} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return fmt.Errorf("create bucket %s: %w", b, err)
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return &store{db: db}, nil
}

func (s *store) close() error { return s.db.Close() }

// nodeID returns the identity of the node, minted on first use.
func (s *store) nodeID(mint func() api.NodeID) (id api.NodeID, err error) {
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketNode)
		if v := b.Get([]byte("id")); v != nil {
			id = api.NodeID(v)
			return nil
		}
		id = mint()
		return b.Put([]byte("id"), []byte(id))
	})
	if err != nil {
		return "", fmt.Errorf("node identity: %w", err)
	}
	return id, nil
}

// cluster returns the rack that the node belongs to: the one stored, or the given one if none
// is.
func (s *store) cluster(id string) (known string, err error) {
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketNode)
		if v := b.Get([]byte("cluster")); v != nil {
			known = string(v)
			return nil
		}
		known = id
		return b.Put([]byte("cluster"), []byte(id))
	})
	if err != nil {
		return "", fmt.Errorf("rack of the node: %w", err)
	}
	return known, nil
}

// disk is what an agent remembers of its file system.
type disk struct {
	Total    api.Bytes `json:"total"`
	Capacity api.Bytes `json:"capacity"`
}

// disk returns what of a file system is the rack's: what was free when the node first ran. Later
// on, images, logs and volumes of the rack take from that, and must not count twice. It grows and
// shrinks with the file system, and grows when more than that is free.
func (s *store) disk(total, free api.Bytes) (capacity api.Bytes, err error) {
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketNode)
		d := disk{Total: total, Capacity: free}
		if doc := b.Get([]byte("disk")); doc != nil {
			var was disk
			if err := json.Unmarshal(doc, &was); err != nil {
				return err
			}
			d.Capacity = min(max(was.Capacity+total-was.Total, free), total)
		}
		capacity = d.Capacity
		doc, err := json.Marshal(d)
		if err != nil {
			return err
		}
		return b.Put([]byte("disk"), doc)
	})
	if err != nil {
		return 0, fmt.Errorf("disk of the node: %w", err)
	}
	return capacity, nil
}

// save stores a process. Secrets stay out: a process that has not been created yet gets them
// from the servers again.
func (s *store) save(id api.ProcessID, a *api.Assignment, l Local) error {
	plain := *a
	plain.Env, plain.Command = nil, nil
	if plain.Build != nil {
		build := *plain.Build
		build.Args, build.Options.Args, build.Registries = nil, nil, nil
		plain.Build = &build
	}
	doc, err := json.Marshal(record{Assignment: plain, Local: l})
	if err != nil {
		return fmt.Errorf("save process %s: %w", id, err)
	}
	err = s.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucketProcesses).Put([]byte(id), doc) })
	if err != nil {
		return fmt.Errorf("save process %s: %w", id, err)
	}
	return nil
}

// forget removes a process.
func (s *store) forget(id api.ProcessID) error {
	err := s.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucketProcesses).Delete([]byte(id)) })
	if err != nil {
		return fmt.Errorf("forget process %s: %w", id, err)
	}
	return nil
}

// processes returns every stored process.
func (s *store) processes() (map[api.ProcessID]record, error) {
	out := map[api.ProcessID]record{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketProcesses).ForEach(func(k, v []byte) error {
			var r record
			if err := json.Unmarshal(v, &r); err != nil {
				return fmt.Errorf("process %s: %w", k, err)
			}
			out[api.ProcessID(k)] = r
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read agent store: %w", err)
	}
	return out, nil
}

// saveRoutes keeps the newest route table for a start without servers.
func (s *store) saveRoutes(table []byte) error {
	err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketRoutes).Put([]byte("table"), table) })
	if err != nil {
		return fmt.Errorf("save routes: %w", err)
	}
	return nil
}

// routes returns the stored route table, nil when there is none.
func (s *store) routes() (table []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketRoutes).Get([]byte("table")); v != nil {
			table = append([]byte(nil), v...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	return table, nil
}

// saveNames keeps the newest addresses of services for a start without servers.
func (s *store) saveNames(names map[string][]netip.AddrPort) error {
	doc, err := json.Marshal(names)
	if err != nil {
		return fmt.Errorf("save names: %w", err)
	}
	if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketRoutes).Put([]byte("names"), doc) }); err != nil {
		return fmt.Errorf("save names: %w", err)
	}
	return nil
}

// names returns the stored addresses of services, nil when there are none.
func (s *store) names() (names map[string][]netip.AddrPort, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketRoutes).Get([]byte("names")); v != nil {
			return json.Unmarshal(v, &names)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	return names, nil
}
