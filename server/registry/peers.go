package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway/api"
)

// PeerIdleDefault is longer than a healthy server needs for its next bytes.
const PeerIdleDefault = 10 * time.Second

// downTime is how long a peer that did not answer is asked last, and by HEAD requests not at all.
const downTime = 30 * time.Second

// answerMax is how long a peer has for the beginning of its answer while another could be asked.
const answerMax = 2 * time.Second

// lingerTime is how long Spread waits for the last servers when most hold the content already.
const lingerTime = time.Second

// wrongTime is how long a peer that sent wrong bytes is asked for the same only after all others.
const wrongTime = time.Hour

// Peer is another server of the rack.
type Peer struct {
	ID string
	// Addr is where its HTTPS listener is reached, host:port.
	Addr string
}

// Peers asks the other servers of the rack. Its methods may be called at once.
type Peers struct {
	list   func() []Peer
	client *http.Client
	idle   time.Duration
	log    *slog.Logger

	mu sync.Mutex

	failed map[string]time.Time // when a peer did not answer, by ID
	wrong  map[blame]time.Time  // when a peer sent wrong bytes
}

// blame says who sent wrong bytes for what.
type blame struct{ id, path string }

// newPeers returns the peers that list names at the time; none for a nil list.
func newPeers(config *Config) *Peers {
	p := &Peers{list: config.Peers, client: config.Client, idle: config.PeerIdle, log: config.Logger, failed: map[string]time.Time{}, wrong: map[blame]time.Time{}}
	if p.list == nil {
		p.list = func() []Peer { return nil }
	}
	return p
}

// any reports whether there is another server.
func (p *Peers) any() bool { return len(p.list()) > 0 }

// errNotThere is the answer of a peer that does not have what it was asked for.
var errNotThere = errors.New("not there")

// errStalled ends a download from a peer that sends nothing, or hardly anything.
var errStalled = errors.New("it sends too slowly")

// order returns the peers in the order to ask them: by chance, to share the work out. Those
// that did not answer lately are apart.
func (p *Peers) order() (up, down []Peer) {
	peers := slices.Clone(p.list())
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, peer := range peers {
		if at, ok := p.failed[peer.ID]; ok && time.Since(at) < downTime {
			down = append(down, peer)
		} else {
			up = append(up, peer)
		}
	}
	return up, down
}

// orderFor returns all peers, those that sent wrong bytes for path last: the one that did so
// longest ago first, so that who tries again does not meet the same one.
func (p *Peers) orderFor(path string) []Peer {
	up, down := p.order()
	peers := append(up, down...)
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.SortStableFunc(peers, func(a, b Peer) int {
		return p.wrong[blame{a.ID, path}].Compare(p.wrong[blame{b.ID, path}])
	})
	return peers
}

// blame remembers that a peer sent wrong bytes.
func (p *Peers) blame(id, path string) {
	p.log.Error("peer sent wrong content", "peer", id, "path", path)
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.wrong, func(_ blame, at time.Time) bool { return time.Since(at) > wrongTime })
	p.wrong[blame{id, path}] = time.Now()
}

// note remembers whether a peer answered.
func (p *Peers) note(id string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ok {
		delete(p.failed, id)
	} else {
		p.failed[id] = time.Now()
	}
	maps.DeleteFunc(p.failed, func(_ string, at time.Time) bool { return time.Since(at) > downTime })
}

// ask sends one request to a peer and returns an answer that is a success. The caller closes
// its body. errNotThere is the error for 404.
func (p *Peers) ask(ctx context.Context, peer Peer, method, path, byteRange string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+peer.Addr+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", peer.ID, err)
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		cause := context.Cause(ctx)
		if cause == nil || errors.Is(cause, errStalled) || errors.Is(cause, context.DeadlineExceeded) {
			p.note(peer.ID, false)
		}
		if cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("server %s: %w", peer.ID, err)
	}
	p.note(peer.ID, true)
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, errNotThere
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // what is missing of it does not matter
	return nil, fmt.Errorf("server %s: %s: %s", peer.ID, resp.Status, strings.TrimSpace(string(text)))
}

// answer is what a peer says of something it has.
type answer struct {
	id   string
	size int64 // bytes
}

// have asks all peers at once whether they have what path names. A peer that does not answer
// soon, or did not lately, has nothing.
func (p *Peers) have(ctx context.Context, path string) []answer {
	up, _ := p.order()
	ctx, cancel := context.WithTimeout(ctx, min(p.idle, answerMax))
	defer cancel()
	return p.all(up, func(peer Peer) (answer, error) { return p.once(ctx, peer, http.MethodHead, path) })
}

// each asks one peer after the other until do succeeds. A peer has answerMax first; only when none
// succeeded, those that failed have the idle time. One for which do says errNotThere is out.
func (p *Peers) each(ctx context.Context, path string, do func(context.Context, Peer) error) error {
	var last error
	out := map[string]bool{}
	for _, limit := range []time.Duration{min(p.idle, answerMax), p.idle} {
		for _, peer := range p.orderFor(path) {
			if out[peer.ID] {
				continue
			}
			asking, cancel := context.WithTimeout(ctx, limit)
			err := do(asking, peer)
			cancel()
			switch {
			case err == nil:
				return nil
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.Is(err, errNotThere):
				out[peer.ID] = true
			default:
				last = err
			}
		}
	}
	return p.nowhere(path, last)
}

// confirm returns nil once a peer says that it has what path names.
func (p *Peers) confirm(ctx context.Context, path string) error {
	return p.each(ctx, path, func(ctx context.Context, peer Peer) error {
		_, err := p.once(ctx, peer, http.MethodHead, path)
		return err
	})
}

// Holders returns the IDs of the peers that hold what path names.
func (p *Peers) Holders(ctx context.Context, path string) []string {
	return ids(p.have(ctx, path))
}

// Spread asks every peer to fetch what path names and this server holds, and returns the IDs of
// those that hold it then. It waits for all, but not for long once most servers of the rack hold
// it, nor then for one that did not answer lately, and not after ctx has ended.
func (p *Peers) Spread(ctx context.Context, path string) []string {
	up, down := p.order()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu      sync.Mutex
		holders = 1 // this server
		linger  *time.Timer
		waiting = len(up)
	)
	out := p.all(append(up, down...), func(peer Peer) (answer, error) {
		a, err := p.once(ctx, peer, http.MethodPost, path)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			holders++
		} else if ctx.Err() == nil {
			p.log.Warn("content not copied to server", "peer", peer.ID, "path", path, "err", err)
		}
		if !slices.Contains(down, peer) {
			waiting--
		}
		most := 2*holders > len(up)+len(down)+1
		switch {
		case most && waiting == 0:
			cancel(errStalled)
		case most && linger == nil:
			linger = time.AfterFunc(lingerTime, func() { cancel(errStalled) })
		}
		return a, err
	})
	if linger != nil {
		linger.Stop()
	}
	return ids(out)
}

func ids(answers []answer) (out []string) {
	for _, a := range answers {
		out = append(out, a.id)
	}
	slices.Sort(out)
	return out
}

// once sends a request whose answer has no body that matters.
func (p *Peers) once(ctx context.Context, peer Peer, method, path string) (answer, error) {
	resp, err := p.ask(ctx, peer, method, path, "")
	if err != nil {
		return answer{}, err
	}
	resp.Body.Close()
	return answer{peer.ID, resp.ContentLength}, nil
}

// all calls do for every peer at once and returns the answers without an error.
func (p *Peers) all(peers []Peer, do func(Peer) (answer, error)) (out []answer) {
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for _, peer := range peers {
		wg.Go(func() {
			if a, err := do(peer); err == nil {
				mu.Lock()
				defer mu.Unlock()
				out = append(out, a)
			}
		})
	}
	wg.Wait()
	return out
}

// document is a small answer that is read into memory.
type document struct {
	body      []byte
	mediaType string
	digest    string
}

// document gets a manifest of at most manifestMax bytes from the first peer that has it. check
// says what is wrong with one that came; the next peer is asked then.
func (p *Peers) document(ctx context.Context, path string, check func(document) error) (doc document, err error) {
	err = p.each(ctx, path, func(ctx context.Context, peer Peer) (err error) {
		if doc, err = p.documentOf(ctx, peer, path); err != nil {
			return err
		}
		if err := check(doc); err != nil {
			p.blame(peer.ID, path)
			return fmt.Errorf("server %s: %w", peer.ID, err)
		}
		return nil
	})
	return doc, err
}

func (p *Peers) documentOf(ctx context.Context, peer Peer, path string) (document, error) {
	resp, err := p.ask(ctx, peer, http.MethodGet, path, "")
	if err != nil {
		return document{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, manifestMax+1))
	if err != nil {
		return document{}, fmt.Errorf("server %s: %w", peer.ID, err)
	}
	return document{body, resp.Header.Get("Content-Type"), resp.Header.Get("Docker-Content-Digest")}, nil
}

// nowhere is the error after every peer was asked in vain: not_found when each of them said so.
func (p *Peers) nowhere(path string, last error) error {
	if last == nil {
		return api.Errorf(api.CodeNotFound, "no server of the rack has %s", path)
	}
	return api.Errorf(api.CodeUnavailable, "%s is not on this server, and not every other could be asked; try again: %w", path, last)
}
