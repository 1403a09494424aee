package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"slipway/api"
)

// commands are what a transcript can apply, by their names in the log.
var commands = func() map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for _, c := range []Command{
		CreateApp{}, DeleteApp{}, LockApp{}, CreateBuild{}, CreateRelease{}, CreateDeployment{}, CancelDeployment{},
		SetScale{}, RestartService{}, CreateProcess{}, StopProcess{}, PutToken{}, DeleteToken{}, ConfigureRack{}, UpdateNode{},
		RegisterNode{}, UpdateProcesses{}, AckRoutes{}, ApplyPlan{}, SetWant{}, UpdateDeployment{}, SetRoutes{}, SetReady{},
		SetDesired{}, SetNodeStatus{}, StartBuild{}, EndBuild{}, Reap{}, PutPool{}, RemoveNode{},
		PutServer{}, RemoveServer{}, PutAuthority{}, SwitchAuthority{}, LeaveBehind{}, RemoveAuthority{}, PutHolding{},
		PutServer{}, RaiseFormat{}, PutRegistry{}, RemoveRegistry{},
	} {
		out[c.Type()] = reflect.TypeOf(c)
	}
	return out
}()

// TestTranscripts plays the logs in testdata. Each command is an entry of the log: its name,
// who asked (ann unless by= says otherwise), why (reason=) and a request ID (request=), with its body as JSON
// below. What follows the line is what Apply made of it: events, what was dropped, or the
// rejection. Entries are a second apart. show prints tables as a snapshot has them.
func TestTranscripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d transcripts: %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s, index := New(), uint64(0)
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				if d.Cmd == "show" {
					return show(t, s.View(), d.CmdArgs)
				}
				index++
				out := play(t, s, index, d)
				if broken := s.View().Check(); len(broken) > 0 {
					t.Fatalf("%s: the state is broken: %q", d.Pos, broken)
				}
				return out
			})
		})
	}
}

// play applies one entry.
func play(t *testing.T, s *State, index uint64, d *datadriven.TestData) string {
	typ, ok := commands[d.Cmd]
	if !ok {
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	body := reflect.New(typ)
	in := json.NewDecoder(strings.NewReader(d.Input))
	in.DisallowUnknownFields()
	if err := in.Decode(body.Interface()); err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
	e := Entry{At: time.Unix(int64(index), 0).UTC(), Actor: "ann", Command: body.Elem().Interface().(Command)}
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "by":
			e.Actor = a.Vals[0]
		case "request":
			e.Request = api.RequestID(a.Vals[0])
		case "reason":
			e.Reason = a.Vals[0]
		default:
			t.Fatalf("%s: unknown argument %q", d.Pos, a.Key)
		}
	}
	return describe(s.Apply(index, e))
}

// describe writes a result as text.
func describe(r Result) string {
	var b strings.Builder
	if r.Duplicate {
		b.WriteString("known already: ")
	}
	if r.Err != nil {
		fmt.Fprintf(&b, "%s: %s\n", r.Err.Code, r.Err.Message)
	}
	for _, e := range r.Events {
		fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("%s %s by %s %s", e.Type, e.Object, e.Actor, e.Message)))
	}
	for _, dropped := range r.Dropped {
		fmt.Fprintln(&b, "dropped:", dropped)
	}
	if r.Value != "" {
		fmt.Fprintln(&b, "value", r.Value)
	}
	if b.Len() == 0 {
		return "ok"
	}
	return b.String()
}

// show prints the records of some tables.
func show(t *testing.T, v *View, tables []datadriven.CmdArg) string {
	var all bytes.Buffer
	if err := v.Encode(&all); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	dec := json.NewDecoder(&all)
	for dec.More() {
		var rec snapshotRecord // the header is one without a table
		if err := dec.Decode(&rec); err != nil {
			t.Fatal(err)
		}
		for _, want := range tables {
			if want.Key == rec.Table {
				fmt.Fprintf(&out, "%s %s\n", rec.Table, rec.Value)
			}
		}
	}
	if out.Len() == 0 {
		return "nothing"
	}
	return out.String()
}
