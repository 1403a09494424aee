package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"slipway/api"
)

// desk answers calls of the API one after another, as a rack has to, unless it is told to break a
// promise.
type desk struct {
	rand    *rand.Rand
	objects map[string]any
	before  map[string][]any // what each object was, oldest first
	number  int              // of the last deployment
	answer  func(*desk, input) output
}

func (d *desk) object(key string) any {
	if object, ok := d.objects[key]; ok {
		return object
	}
	switch kindOf(key) {
	case "rollout":
		return rollout{"D0", "v1"}
	case "env":
		return []string(nil)
	}
	return apiSpecs()[kindOf(key)].init
}

func (d *desk) put(key string, object any) {
	d.before[key] = append(d.before[key], d.object(key))
	d.objects[key] = object
}

// right is the answer of a rack that keeps its promises.
func (d *desk) right(in input) output {
	switch object := d.object(in.key).(type) {
	case fleet:
		if in.op == "list" {
			return done(object.String())
		}
		i, _ := strconv.Atoi(in.arg) // drawAmong wrote it
		if in.op == "get" {
			return done(object[i].String())
		}
		next, code := object[i].call(in.op)
		object[i] = next
		d.put(in.key, object)
		return output{known: true, code: code}
	case []string:
		count, name, compared := strings.Cut(in.arg, " ")
		switch {
		case in.op == "get":
			return done(strings.Join(object, " "))
		case !compared:
			name = in.arg
		case count != strconv.Itoa(len(object)):
			return rejected(api.CodeConflict)
		}
		next := append(slices.Clone(object), name)
		slices.Sort(next)
		d.put(in.key, next)
		return done(fmt.Sprint("v", len(next)))
	case rollout:
		if in.op == "promote" {
			d.number++
			object = rollout{fmt.Sprint("D", d.number), in.arg}
			d.put(in.key, object)
		}
		return done(object.deployment + " " + object.release)
	case string:
		switch {
		case in.op == "get":
			return done(object)
		case in.arg == scaleInvalid:
			return rejected(api.CodeInvalid)
		}
		d.put(in.key, in.arg)
		return done("")
	}
	panic(in.key)
}

// past answers as if the last writes had not been yet.
func (d *desk) past(in input, writes int) output {
	now, old := d.object(in.key), d.before[in.key]
	defer func() { d.objects[in.key] = now }()
	d.objects[in.key] = old[len(old)-writes]
	return d.right(in)
}

// seldom is true one time in ten, for a call that changes nothing, or one that does.
func (d *desk) seldom(in input, reads bool) bool {
	return in.reads() == reads && len(d.before[in.key]) >= writesAgo && d.rand.IntN(10) == 0
}

const writesAgo = 4

// play has clients call a desk, some at the same time, and returns their history. One call in fifty
// gets no answer, whether it was done or not.
func (d *desk) play() *history {
	h := newHistory()
	type client struct {
		caller
		at   int // of the call: 0 before it, 1 on its way there, 2 on its way back
		call int
		in   input
		out  output
	}
	clients := make([]client, callersAtOnce)
	for i := range clients {
		clients[i].caller = caller{rand: d.rand, history: h, name: h.client()}
	}
	for step := range 6000 {
		c := &clients[d.rand.IntN(len(clients))]
		switch c.at {
		case 0:
			if c.in = c.drawAmong(step/600, step/2000); c.in.op == "swap" {
				c.in.arg = fmt.Sprint(len(d.object(c.in.key).([]string)), " ", c.in.arg)
			}
			c.call = h.begin(c.name, c.in)
		case 1:
			if c.out = (output{}); d.rand.IntN(100) > 0 {
				c.out = d.answer(d, c.in)
			}
		case 2:
			if d.rand.IntN(100) == 0 {
				c.out = output{}
			}
			h.end(c.call, c.out)
			if !c.out.known {
				c.name = h.client()
			}
		}
		c.at = (c.at + 1) % 3
	}
	return h
}

// TestBrokenPromisesOfTheAPIAreSeen: a rack that breaks a promise now and then is found out, and one
// that keeps all is not blamed.
func TestBrokenPromisesOfTheAPIAreSeen(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*desk, input) output
		kinds  string // of the objects whose histories have to be wrong
	}{
		"none": {(*desk).right, ""},
		"a write is acknowledged and lost": {func(d *desk, in input) output {
			if now := d.object(in.key); d.seldom(in, false) {
				defer func() { d.objects[in.key] = now }()
			}
			return d.right(in)
		}, "env fleet rollout size"},
		"a read is stale": {func(d *desk, in input) output {
			if d.seldom(in, true) {
				return d.past(in, writesAgo)
			}
			return d.right(in)
		}, "env fleet rollout size"},
		"what is compared is not checked": {func(d *desk, in input) output {
			if _, name, ok := strings.Cut(in.arg, " "); ok {
				in.arg = name
			}
			return d.right(in)
		}, "env"},
		"a list shows two moments": {func(d *desk, in input) output {
			out := d.right(in)
			if in.op == "list" && d.seldom(in, true) {
				first, _, _ := strings.Cut(d.past(in, writesAgo).value, " ")
				_, others, _ := strings.Cut(out.value, " ")
				return done(first + " " + others)
			}
			return out
		}, "fleet"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{rand: rand.New(rand.NewPCG(1, 7)), objects: map[string]any{}, before: map[string][]any{}, answer: c.answer}
			found := check(d.play())
			var kinds []string
			for _, v := range found {
				kinds = append(kinds, kindOf(v.key))
			}
			slices.Sort(kinds)
			if got := strings.Join(slices.Compact(kinds), " "); got != c.kinds {
				t.Errorf("seen with %q, want %q", got, c.kinds)
			}
			if len(found) > 0 {
				t.Log(found[0])
			}
		})
	}
}
