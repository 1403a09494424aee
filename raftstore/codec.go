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

// commandVersion is the version of the form of command bodies that this program writes, and
// the newest it reads.
const commandVersion = 1

// commandTypes maps the name of a command in the log to its Go type.
var commandTypes = typesOf(
	state.CreateApp{}, state.DeleteApp{}, state.LockApp{}, state.CreateBuild{}, state.CreateRelease{},
	state.CreateDeployment{}, state.CancelDeployment{}, state.SetScale{}, state.RestartService{},
	state.CreateProcess{}, state.StopProcess{}, state.PutToken{}, state.DeleteToken{}, state.ConfigureRack{},
	state.UpdateNode{}, state.RegisterNode{}, state.UpdateProcesses{}, state.AckRoutes{}, state.ApplyPlan{},
	state.SetWant{}, state.UpdateDeployment{}, state.SetRoutes{}, state.SetReady{}, state.SetDesired{},
	state.PutPool{}, state.SetNodeStatus{}, state.StartBuild{}, state.EndBuild{}, state.Reap{},
)

func typesOf(commands ...state.Command) map[string]reflect.Type {
	m := make(map[string]reflect.Type, len(commands))
	for _, c := range commands {
		m[c.Type()] = reflect.TypeOf(c)
	}
	return m
}

// encode writes entries as one Raft entry.
func encode(entries []state.Entry) ([]byte, error) {
	batch := &pb.Batch{Command: make([]*pb.Command, len(entries))}
	for i, e := range entries {
		body, err := json.Marshal(e.Command)
		if err != nil {
			return nil, fmt.Errorf("encode command %s: %w", e.Command.Type(), err)
		}
		batch.Command[i] = &pb.Command{
			Version: commandVersion, Type: e.Command.Type(), RequestId: string(e.Request),
			At: e.At.UnixNano(), Actor: e.Actor, Body: body,
		}
	}
	b, err := proto.Marshal(batch)
	if err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	return b, nil
}

// decode reads a Raft entry. A command that this version does not know is an error, and the
// replica must stop: if it went on, it would diverge from those that know it.
func decode(b []byte) ([]state.Entry, error) {
	var batch pb.Batch
	if err := proto.Unmarshal(b, &batch); err != nil {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	entries := make([]state.Entry, len(batch.Command))
	for i, c := range batch.Command {
		t, ok := commandTypes[c.Type]
		if !ok || c.Version > commandVersion {
			return nil, fmt.Errorf("command %q of version %d was written by a newer server; upgrade this one", c.Type, c.Version)
		}
		v := reflect.New(t)
		if err := json.Unmarshal(c.Body, v.Interface()); err != nil {
			return nil, fmt.Errorf("decode command %s: %w", c.Type, err)
		}
		entries[i] = state.Entry{
			Request: api.RequestID(c.RequestId), At: time.Unix(0, c.At).UTC(), Actor: c.Actor,
			Command: v.Elem().Interface().(state.Command),
		}
	}
	return entries, nil
}
