package raftstore

import (
	"fmt"
	"time"

	"slipway/api"
)

// limits say how long the watchdog bears with something.
type limits struct {
	tick   time.Duration // between two looks
	hang   time.Duration // of one operation on the disk, before a leader offers its office
	silent time.Duration // of one operation on the disk, before a leader stops being heard
	dead   time.Duration // of one operation on the disk, before the program ends
	settle time.Duration // that a leader without room leads before it offers its office
	offer  time.Duration // between two offers
	loop   time.Duration // of one pass of the leader's loop; after ten times as long the program ends
}

var defaultLimits = limits{
	tick: time.Second, hang: 10 * time.Second, silent: 15 * time.Second, dead: time.Minute,
	settle: 5 * time.Second, offer: time.Minute, loop: 30 * time.Second,
}

// signs are what the watchdog sees at one moment.
type signs struct {
	now       time.Time
	awake     time.Time // since when the watchdog has looked without a pause
	leads     time.Time // since when this server leads; zero if it does not
	others    bool      // there are other voters, who can lead
	busy      time.Time // since when the disk has an operation; zero if it has none
	failed    error     // after which the log takes nothing more
	unread    error     // what the log has and this program cannot read
	full      bool      // the disk has no room
	loop      time.Time // when the leader's loop passed last
	loopWaits bool      // there are changes that it has not seen
	offered   time.Time // when leadership was last offered to another server
	silenced  bool      // nobody hears from this server any more
}

// step is what the watchdog does.
type step int

const (
	stepNone    step = iota
	stepOffer        // ask Raft to give the leadership to another server
	stepSilence      // stop Raft, and everything that it sends
	stepDie          // the program is to end
)

// judge decides what to do, and says why.
//
// Raft sends its heartbeats apart from its log, so that a leader whose disk hangs is followed
// forever and nothing is ever stored. Offering the leadership goes through the loop that hangs,
// so it helps only where the disk is slow or something else is stuck; when it did not help, the
// leader falls silent, and the others elect one of them.
func (l limits) judge(s signs) (step, string) {
	leads := !s.leads.IsZero()
	offers := leads && s.others && s.now.Sub(s.offered) >= l.offer
	// Where the whole machine stood still, the disk had no time to answer either.
	busy, stuck := min(s.since(s.busy), s.now.Sub(s.awake)), time.Duration(0)
	if leads && s.loopWaits {
		stuck = min(s.since(s.leads), s.now.Sub(s.loop), s.now.Sub(s.awake))
	}
	switch {
	case s.unread != nil:
		return stepDie, s.unread.Error()
	case s.failed != nil:
		return stepDie, fmt.Sprintf("the disk has refused to store the log: %v", s.failed)
	case busy >= l.dead:
		return stepDie, fmt.Sprintf("the disk has not answered for %s", busy.Round(time.Second))
	case s.silenced && s.busy.IsZero():
		return stepDie, "the disk answers again after it had hung; the server starts anew"
	case stuck >= 10*l.loop:
		return stepDie, fmt.Sprintf("the loop of the leader has not passed for %s", stuck.Round(time.Second))
	case s.silenced:
		return stepNone, ""
	case leads && s.others && busy >= l.silent:
		return stepSilence, fmt.Sprintf("the disk has not answered for %s", busy.Round(time.Second))
	case offers && busy >= l.hang:
		return stepOffer, fmt.Sprintf("the disk has not answered for %s", busy.Round(time.Second))
	case offers && s.full && s.since(s.leads) >= l.settle:
		return stepOffer, "the disk is full"
	case offers && stuck >= l.loop:
		return stepOffer, fmt.Sprintf("the loop of the leader has not passed for %s", stuck.Round(time.Second))
	}
	return stepNone, ""
}

// since is how long ago t was, 0 for the zero time.
func (s signs) since(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return s.now.Sub(t)
}

// died is the error that ends the program.
func died(why string) error {
	return api.Errorf(api.CodeUnavailable, "this server cannot go on: %s; it is to be started again, see the disk if that does not help", why)
}
