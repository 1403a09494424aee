package agent

import (
	"sync"

	"slipway/api"
)

// reports holds the statuses that servers have not confirmed. It keeps only the newest of
// each process, so that its size is bounded by the processes of the node.
type reports struct {
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	seq     uint64
	pending map[api.ProcessID]api.ProcessStatus // to send
	flying  map[api.ProcessID]flight            // sent, not acknowledged
}

type flight struct {
	seq    uint64
	status api.ProcessStatus
}

func newReports() *reports {
	return &reports{wake: make(chan struct{}, 1), pending: map[api.ProcessID]api.ProcessStatus{}, flying: map[api.ProcessID]flight{}}
}

// add queues a status in place of an older one of the same process.
func (r *reports) add(id api.ProcessID, s api.ProcessStatus) {
	r.mu.Lock()
	r.pending[id] = s
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be sent and its sequence number.
func (r *reports) take() (uint64, map[api.ProcessID]api.ProcessStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) == 0 {
		return 0, nil
	}
	r.seq++
	batch := r.pending
	r.pending = map[api.ProcessID]api.ProcessStatus{}
	for id, s := range batch {
		r.flying[id] = flight{seq: r.seq, status: s}
	}
	return r.seq, batch
}

// acknowledge drops what is durable now.
func (r *reports) acknowledge(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, f := range r.flying {
		if f.seq <= seq {
			delete(r.flying, id)
		}
	}
}

// rewind queues everything that was sent but not acknowledged, for a new session.
func (r *reports) rewind() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, f := range r.flying {
		if _, newer := r.pending[id]; !newer {
			r.pending[id] = f.status
		}
		delete(r.flying, id)
	}
}
