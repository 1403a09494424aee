// Package gossip is how the servers of a rack find one another and notice who is gone, by
// hashicorp/memberlist. Everything it sends is encrypted with a key that only servers have.
//
// What it knows is a hint: it tells addresses and shows who answers, and decides nothing. Raft
// alone says who leads and what is true.
//
// Goroutines: those of memberlist, and Run.
package gossip

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"slipway/api"
)

// Config is what a Gossip is made of.
type Config struct {
	ID   string // of this server
	Addr string // host:port, for TCP and UDP, which the others reach
	Key  []byte // 32 bytes, the same on all servers
	// About is what this server tells of itself, at most AboutMax bytes. It is asked every second.
	About func() []byte
	// Others are addresses where other servers may answer.
	Others func() []string
	Log    *slog.Logger
}

// AboutMax is the largest that a server can tell of itself, in bytes.
const AboutMax = memberlist.MetaMaxSize

// everySecond is how often a server tells of itself.
const everySecond = time.Second

// searchEvery is how often a server that sees nobody, or has not joined yet, looks for others.
const searchEvery = 5 * time.Second

// Member is a server that answers.
type Member struct {
	ID    string
	About []byte
}

// Gossip is this server's part of it.
type Gossip struct {
	cfg  Config
	list *memberlist.Memberlist

	mu      sync.Mutex
	members map[string][]byte // what those who answer tell of themselves, by ID
}

// Open listens.
func Open(cfg Config) (*Gossip, error) {
	host, text, err := net.SplitHostPort(cfg.Addr)
	port, bad := strconv.Atoi(text)
	if err != nil || bad != nil {
		return nil, api.Errorf(api.CodeInvalid, "gossip address %.80q is not host:port", cfg.Addr)
	}
	g := &Gossip{cfg: cfg, members: map[string][]byte{}}
	conf := memberlist.DefaultLANConfig()
	conf.Name, conf.BindAddr, conf.BindPort, conf.AdvertiseAddr, conf.AdvertisePort = cfg.ID, host, port, host, port
	conf.SecretKey, conf.Delegate, conf.Events = cfg.Key, delegate{g}, delegate{g}
	conf.Logger = log.New(io.Discard, "", 0)
	conf.DeadNodeReclaimTime = time.Second // a server may come back with another address
	if g.list, err = memberlist.Create(conf); err != nil {
		return nil, fmt.Errorf("gossip on %s: %w", cfg.Addr, err)
	}
	return g, nil
}

// Run tells of this server and looks for others, until ctx ends; then it says good-bye.
func (g *Gossip) Run(ctx context.Context) error {
	tick := time.NewTicker(everySecond)
	defer tick.Stop()
	defer g.Close()
	var searched time.Time
	joined := false
	for {
		// What a server tells is worth less than what it told before it was restarted, until the
		// others have told it how far they count. So it joins even where they have found it first.
		if others := g.cfg.Others(); (!joined || g.list.NumMembers() < 2) && len(others) > 0 && time.Since(searched) > searchEvery {
			searched = time.Now()
			n, err := g.list.Join(others)
			if joined = joined || n > 0; err != nil {
				g.cfg.Log.Debug("not every other server found", "found", n, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := g.list.UpdateNode(everySecond); err != nil {
			g.cfg.Log.Debug("news of this server not spread", "err", err)
		}
	}
}

// Close stops listening, without a good-bye: a server that restarts is not gone.
func (g *Gossip) Close() {
	if err := g.list.Shutdown(); err != nil {
		g.cfg.Log.Debug("gossip not closed cleanly", "err", err)
	}
}

// Members returns the servers that answer, this one among them.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []Member
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		out = append(out, Member{ID: id, About: g.members[id]})
	}
	return out
}

// delegate answers memberlist.
type delegate struct{ gossip *Gossip }

// NodeMeta returns what this server tells of itself.
func (d delegate) NodeMeta(limit int) []byte {
	about := d.gossip.cfg.About()
	if len(about) > limit {
		d.gossip.cfg.Log.Error("this server has too much to tell of itself", "bytes", len(about), "limit", limit)
		return nil
	}
	return about
}

// NotifyMsg, GetBroadcasts, LocalState and MergeRemoteState have nothing to do: what servers tell
// of themselves is all there is.
func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

// NotifyJoin and NotifyUpdate take in what a server tells; memberlist keeps its own records to
// itself, and changes them at any time.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.NotifyUpdate(n) }

// NotifyUpdate is called when a server tells something new.
func (d delegate) NotifyUpdate(n *memberlist.Node) {
	d.gossip.mu.Lock()
	defer d.gossip.mu.Unlock()
	d.gossip.members[n.Name] = bytes.Clone(n.Meta)
}

// NotifyLeave is called when a server does not answer any more.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.gossip.mu.Lock()
	defer d.gossip.mu.Unlock()
	delete(d.gossip.members, n.Name)
}
