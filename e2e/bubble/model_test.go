package bubble

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/api"
	"slipway/runtime/fake"
)

// behaviour is what a program does, read from its environment:
//
//	BOOT=2s     is ready to answer after that long (300 ms)
//	MODE=crash  ends with code 3 when it should be ready
//	MODE=sick   answers 500 for ever
//	MODE=fades  answers for 20 s, then 500
//	MODE=deaf   ignores SIGTERM
type behaviour struct {
	boot time.Duration
	mode string
}

func behaviourOf(env map[string]string) behaviour {
	b := behaviour{boot: 300 * time.Millisecond, mode: env["MODE"]}
	if d, err := time.ParseDuration(env["BOOT"]); err == nil {
		b.boot = d
	}
	return b
}

// answer is what a probe gets of a process of that age; "" is a good answer.
func (b behaviour) answer(age time.Duration) string {
	switch {
	case age < b.boot, b.mode == "crash":
		return "connection refused"
	case b.mode == "sick", b.mode == "fades" && age > 20*time.Second:
		return "answered 500 Internal Server Error"
	}
	return ""
}

// program is the main process of every container, and of every command in one: "exit N" ends
// with N, "count N" writes N lines first.
func program(ctx context.Context, p *fake.Process) int {
	env := map[string]string{}
	for _, e := range p.Env {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	if at := slices.Index(p.Args, "exit"); at >= 0 {
		code := 0
		fmt.Sscan(p.Args[at+1], &code)
		fmt.Fprintln(p.Stdout, strings.Join(p.Args[:at], " "), "leaves with", code)
		return code
	}
	if at := slices.Index(p.Args, "hold"); at >= 0 {
		return hold(ctx, p, p.Args[at+1])
	}
	b := behaviourOf(env)
	fmt.Fprintln(p.Stdout, "version", env["VERSION"])
	boot := time.NewTimer(b.boot)
	defer boot.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0
		case <-boot.C:
			if b.mode == "crash" {
				fmt.Fprintln(p.Stderr, "panic: no database")
				return 3
			}
		case sig := <-p.Signals:
			if sig == syscall.SIGTERM && b.mode != "deaf" {
				return 0
			}
		}
	}
}

// hold keeps a file in being for as long as it runs, and reads no input.
func hold(ctx context.Context, p *fake.Process, file string) int {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		fmt.Fprintln(p.Stderr, err)
		return 1
	}
	defer os.Remove(file)
	fmt.Fprintln(p.Stdout, "version hold")
	<-ctx.Done()
	return 0
}

// router keeps the contract of the node's router: one version at a time, targets that left the
// table drain while they have requests in flight.
type router struct {
	mu       sync.Mutex
	table    api.RouteTable
	inFlight time.Duration // how long requests last
	draining map[api.ProcessID]time.Time
	moved    chan struct{} // closed and replaced when the status changes
	away     bool          // it answers nothing
}

func newRouter() *router {
	return &router{draining: map[api.ProcessID]time.Time{}, moved: make(chan struct{})}
}

func targets(t api.RouteTable) map[api.ProcessID]bool {
	out := map[api.ProcessID]bool{}
	for _, r := range t.Routes {
		for _, target := range r.Targets {
			out[target.Process] = true
		}
	}
	return out
}

// Apply swaps the table.
func (r *router) Apply(_ context.Context, t api.RouteTable) (api.RouterStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.away:
		return api.RouterStatus{}, api.Errorf(api.CodeUnavailable, "the router is away")
	case t.Version < r.table.Version:
		return api.RouterStatus{}, api.Errorf(api.CodeConflict, "table %d is older than %d", t.Version, r.table.Version)
	}
	now := targets(t)
	for id := range targets(r.table) {
		if !now[id] && r.inFlight > 0 {
			r.draining[id] = time.Now().Add(r.inFlight)
			time.AfterFunc(r.inFlight, r.tell)
		}
	}
	r.table = t
	r.tellLocked()
	return r.statusLocked(), nil
}

func (r *router) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tellLocked()
}

func (r *router) tellLocked() {
	close(r.moved)
	r.moved = make(chan struct{})
}

func (r *router) statusLocked() api.RouterStatus {
	s := api.RouterStatus{Version: r.table.Version}
	for id, until := range r.draining {
		if !time.Now().Before(until) {
			delete(r.draining, id)
			continue
		}
		s.Draining = append(s.Draining, api.DrainingTarget{Process: id, InFlight: 1})
	}
	return s
}

// Status returns what the router serves.
func (r *router) Status(context.Context) (api.RouterStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return api.RouterStatus{}, api.Errorf(api.CodeUnavailable, "the router is away")
	}
	return r.statusLocked(), nil
}

// Watch reports every change until ctx ends.
func (r *router) Watch(ctx context.Context, report func(api.RouterStatus)) error {
	for {
		r.mu.Lock()
		s, moved, away := r.statusLocked(), r.moved, r.away
		r.mu.Unlock()
		if away {
			return api.Errorf(api.CodeUnavailable, "the router is away")
		}
		report(s)
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		}
	}
}

// SetCertificate takes any certificate.
func (*router) SetCertificate(context.Context, string, []byte) error { return nil }

// leadsTo reports whether new requests can reach a process.
func (r *router) leadsTo(id api.ProcessID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.away && targets(r.table)[id]
}
