package dispatch

import (
	"strconv"
	"sync"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// documents writes assignments. The copies of a service differ in little, and opening and writing
// what they share takes ten times as long as the rest; so it is kept, for a moment only, because
// there are secrets in it. Its zero value is ready.
type documents struct {
	mu   sync.Mutex
	kept map[shape]*template
}

// keptFor is how long secrets may be kept.
const keptFor = 5 * time.Second

// shape is what two copies must have in common to share a template.
type shape struct {
	rack     string
	app      api.AppName
	service  api.ServiceName
	release  api.ReleaseID
	ask      api.Amount
	override *api.ScaleOverride
	deleting bool
}

// template is the JSON of an assignment without what belongs to one copy: the members of its
// environment, each with a comma in front, and the other members.
type template struct{ env, rest []byte }

// assignment returns the document of what a process needs.
func (d *documents) assignment(v *state.View, p *api.Process, open secrets) ([]byte, error) {
	t, err := d.template(v, p, open)
	if err != nil {
		return nil, err
	}
	if t == nil {
		a, err := assignment(v, p, open)
		if err != nil {
			return nil, err
		}
		return pb.Marshal(a), nil
	}
	b := make([]byte, 0, len(t.env)+len(t.rest)+160)
	b = append(b, `{"process":"`...)
	b = append(b, p.ID...)
	b = append(b, `","slot":`...)
	b = strconv.AppendInt(b, int64(p.Slot), 10)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(p.Attempt), 10)
	b = append(b, `,"desired":"`...)
	b = append(b, p.Desired.String()...)
	b = append(b, `","env":{"PROCESS":"`...)
	b = append(b, p.ID...)
	b = append(b, '"')
	b = append(b, t.env...)
	b = append(b, '}')
	return append(b, t.rest...), nil
}

// template returns what the copies of a service share; nil for a process that is not like others.
func (d *documents) template(v *state.View, p *api.Process, open secrets) (*template, error) {
	if p.Kind != api.KindService || p.Grant != nil || !plainText(string(p.ID)) {
		return nil, nil
	}
	at := shape{rack: v.Rack().Name, app: p.App, service: p.Service, release: p.Release, ask: p.Ask}
	if service, ok := v.Service(p.Key()); ok {
		at.override = service.Override
	}
	if app, ok := v.App(p.App); ok {
		at.deleting = app.Deleting
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.kept[at]; t != nil {
		return t, nil
	}
	a, err := assignment(v, p, open)
	if err != nil {
		return nil, err
	}
	if a.Env["PROCESS"] != string(p.ID) {
		return nil, nil // the app has a word of its own for it
	}
	if d.kept == nil {
		d.kept = map[shape]*template{}
		time.AfterFunc(keptFor, d.forget)
	}
	t := newTemplate(a)
	d.kept[at] = t
	return t, nil
}

// newTemplate takes one copy out of its own assignment.
func newTemplate(a api.Assignment) *template {
	delete(a.Env, "PROCESS")
	t := &template{}
	if members := pb.Marshal(a.Env); len(a.Env) > 0 {
		t.env = append([]byte{','}, members[1:len(members)-1]...)
	}
	t.rest = append([]byte{','}, pb.Marshal(struct {
		App     api.AppName     `json:"app"`
		Service api.ServiceName `json:"service"`
		Kind    api.Kind        `json:"kind"`
		Release api.ReleaseID   `json:"release,omitempty"`
		Image   api.Image       `json:"image,omitzero"`
		Spec    api.ServiceSpec `json:"spec"`
		Ask     api.Amount      `json:"ask"`
		Command []string        `json:"command,omitempty"`
		Purge   bool            `json:"purge,omitempty"`
	}{a.App, a.Service, a.Kind, a.Release, a.Image, a.Spec, a.Ask, a.Command, a.Purge})[1:]...)
	return t
}

// plainText reports whether JSON has a text as it is between quotes.
func plainText(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return false
		}
	}
	return true
}

func (d *documents) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = nil
}
