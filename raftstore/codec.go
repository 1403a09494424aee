package raftstore

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"google.golang.org/protobuf/proto"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// commandVersion is the version of command bodies in JSON. Plans have a form and a version of
// their own.
const commandVersion = 1

// commandTypes maps the name of a command in the log to its Go type.
var commandTypes = typesOf(
	state.CreateApp{}, state.DeleteApp{}, state.LockApp{}, state.CreateBuild{}, state.CreateRelease{},
	state.CreateDeployment{}, state.CancelDeployment{}, state.SetScale{}, state.RestartService{},
	state.CreateProcess{}, state.StopProcess{}, state.PutToken{}, state.DeleteToken{}, state.ConfigureRack{},
	state.UpdateNode{}, state.RemoveNode{}, state.RegisterNode{}, state.UpdateProcesses{}, state.AckRoutes{}, state.ApplyPlan{},
	state.SetWant{}, state.UpdateDeployment{}, state.SetRoutes{}, state.SetReady{}, state.SetDesired{},
	state.PutPool{}, state.SetNodeStatus{}, state.StartBuild{}, state.EndBuild{}, state.Reap{},
	state.PutServer{}, state.RemoveServer{}, state.PutAuthority{}, state.RemoveAuthority{}, state.SwitchAuthority{},
	state.LeaveBehind{}, state.PutHolding{}, state.ReportRefusal{},
)

func typesOf(commands ...state.Command) map[string]reflect.Type {
	m := make(map[string]reflect.Type, len(commands))
	for _, c := range commands {
		m[c.Type()] = reflect.TypeOf(c)
	}
	return m
}

// Encode writes entries as one Raft entry.
func Encode(entries []state.Entry) ([]byte, error) {
	batch := &pb.Batch{Command: make([]*pb.Command, len(entries))}
	for i, e := range entries {
		body, version, err := encodeBody(e.Command)
		if err != nil {
			return nil, fmt.Errorf("encode command %s: %w", e.Command.Type(), err)
		}
		batch.Command[i] = &pb.Command{
			Version: version, Type: e.Command.Type(), RequestId: string(e.Request),
			At: e.At.UnixNano(), Actor: e.Actor, Reason: e.Reason, Body: body,
		}
	}
	b, err := proto.Marshal(batch)
	if err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	return b, nil
}

// Decode reads a Raft entry. A command that this version does not know is an error, and the
// replica must stop: if it went on, it would diverge from those that know it.
func Decode(b []byte) ([]state.Entry, error) {
	var batch pb.Batch
	if err := proto.Unmarshal(b, &batch); err != nil {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	entries := make([]state.Entry, len(batch.Command))
	for i, c := range batch.Command {
		command, err := decodeBody(c.Type, c.Version, c.Body)
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

// encodeBody writes a command and says in which version.
func encodeBody(c state.Command) ([]byte, uint32, error) {
	if p, ok := c.(state.ApplyPlan); ok {
		body, err := encodePlan(p)
		return body, planVersion, err
	}
	body, err := json.Marshal(c)
	return body, commandVersion, err
}

// decodeBody reads a command.
func decodeBody(name string, version uint32, body []byte) (state.Command, error) {
	t, ok := commandTypes[name]
	plan := t == reflect.TypeFor[state.ApplyPlan]()
	if !ok || version > planVersion || version > commandVersion && !plan {
		return nil, fmt.Errorf("command %q of version %d was written by a newer server; upgrade this one", name, version)
	}
	if version == planVersion {
		p, err := decodePlan(body)
		if err != nil {
			return nil, fmt.Errorf("decode command %s: %w", name, err)
		}
		return p, nil
	}
	v := reflect.New(t)
	if err := json.Unmarshal(body, v.Interface()); err != nil {
		return nil, fmt.Errorf("decode command %s: %w", name, err)
	}
	return v.Elem().Interface().(state.Command), nil
}
