package raftstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"google.golang.org/protobuf/proto"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// kind is a command as the log knows it.
type kind struct {
	typ   reflect.Type
	since uint32 // the format that it came with
	late  bool   // it has fields that came later; see since.go
}

// dialect is what one version of the program reads and writes. A command stands in the log with
// the oldest format that can read it.
type dialect struct {
	newest uint32
	kinds  map[string]kind
}

// present is the dialect of this program.
var present = newDialect(state.FormatNewest, 1, []state.Command{
	state.CreateApp{}, state.DeleteApp{}, state.LockApp{}, state.CreateBuild{}, state.CreateRelease{},
	state.CreateDeployment{}, state.CancelDeployment{}, state.SetScale{}, state.RestartService{},
	state.CreateProcess{}, state.StopProcess{}, state.PutToken{}, state.DeleteToken{}, state.ConfigureRack{},
	state.UpdateNode{}, state.RemoveNode{}, state.RegisterNode{}, state.UpdateProcesses{}, state.AckRoutes{}, state.ApplyPlan{},
	state.SetWant{}, state.UpdateDeployment{}, state.SetRoutes{}, state.SetReady{}, state.SetDesired{},
	state.PutPool{}, state.SetNodeStatus{}, state.StartBuild{}, state.EndBuild{}, state.Reap{},
	state.PutServer{}, state.RemoveServer{}, state.PutAuthority{}, state.RemoveAuthority{}, state.SwitchAuthority{}, state.LeaveBehind{}, state.PutHolding{},
	state.RaiseFormat{}, state.PutRegistry{}, state.RemoveRegistry{},
}, state.Later())

// newDialect returns a dialect with commands of a format, and later ones.
func newDialect(newest, format uint32, commands []state.Command, later map[uint32][]state.Command) *dialect {
	d := &dialect{newest: newest, kinds: map[string]kind{}}
	add := func(format uint32, commands []state.Command) {
		for _, c := range commands {
			t := reflect.TypeOf(c)
			d.kinds[c.Type()] = kind{typ: t, since: format, late: hasLate(t)}
		}
	}
	add(format, commands)
	for format, commands := range later {
		add(format, commands)
	}
	return d
}

// Encode writes entries as one Raft entry.
func Encode(entries []state.Entry) ([]byte, error) { return present.encode(entries) }

// Decode reads a Raft entry. What this program does not know is an error, and the replica must
// stop: if it went on, it would diverge from those that know it.
func Decode(b []byte) ([]state.Entry, error) { return present.decode(b) }

// needs returns the oldest format that reads a command, and what in it is the newest.
func (d *dialect) needs(c state.Command) (format uint32, what string) {
	if _, ok := c.(state.ApplyPlan); ok {
		return planFormat, c.Type()
	}
	k := d.kinds[c.Type()]
	format, what = k.since, c.Type()
	if k.late {
		if since, field := latest(reflect.ValueOf(c)); since > format {
			return since, what + "." + field
		}
	}
	return format, what
}

func (d *dialect) encode(entries []state.Entry) ([]byte, error) {
	batch := &pb.Batch{Command: make([]*pb.Command, len(entries))}
	for i, e := range entries {
		body, err := encodeBody(e.Command)
		if err != nil {
			return nil, fmt.Errorf("encode command %s: %w", e.Command.Type(), err)
		}
		format, _ := d.needs(e.Command)
		batch.Command[i] = &pb.Command{
			Version: format, Type: e.Command.Type(), RequestId: string(e.Request),
			At: e.At.UnixNano(), Actor: e.Actor, Reason: e.Reason, Body: body,
		}
	}
	b, err := proto.Marshal(batch)
	if err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	return b, nil
}

func (d *dialect) decode(b []byte) ([]state.Entry, error) {
	var batch pb.Batch
	if err := proto.Unmarshal(b, &batch); err != nil {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	if len(batch.ProtoReflect().GetUnknown()) > 0 {
		return nil, newer("an entry has more than commands")
	}
	entries := make([]state.Entry, len(batch.Command))
	for i, c := range batch.Command {
		if len(c.ProtoReflect().GetUnknown()) > 0 {
			return nil, newer(fmt.Sprintf("the envelope of command %q has a field that is not known here", c.Type))
		}
		command, err := d.decodeBody(c.Type, c.Version, c.Body)
		if err != nil {
			return nil, err
		}
		entries[i] = state.Entry{
			Request: api.RequestID(c.RequestId), At: time.Unix(0, c.At).UTC(), Actor: c.Actor,
			Reason: c.Reason, Command: command,
		}
	}
	return entries, nil
}

// newer is the error of a replica that must not go on.
func newer(what string) error {
	return api.Errorf(api.CodeConflict, "the log was written by a newer version of slipway: %s; install the version that the other servers have", what)
}

// encodeBody writes a command.
func encodeBody(c state.Command) ([]byte, error) {
	if p, ok := c.(state.ApplyPlan); ok {
		return encodePlan(p)
	}
	return json.Marshal(c)
}

// decodeBody reads a command.
func (d *dialect) decodeBody(name string, format uint32, body []byte) (state.Command, error) {
	k, ok := d.kinds[name]
	if !ok || format > d.newest {
		return nil, newer(fmt.Sprintf("command %q needs format %d, this program reads up to %d", name, format, d.newest))
	}
	if k.typ == reflect.TypeFor[state.ApplyPlan]() && format >= planFormat {
		p, err := decodePlan(body)
		if err != nil {
			return nil, fmt.Errorf("decode command %s: %w", name, err)
		}
		return p, nil
	}
	v := reflect.New(k.typ)
	if err := unmarshalWhole(body, v.Interface()); err != nil {
		return nil, fmt.Errorf("decode command %s: %w", name, err)
	}
	return v.Elem().Interface().(state.Command), nil
}

// unmarshalWhole reads JSON of which nothing may be left out: a field that is not known is an error.
func unmarshalWhole(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}
