package raftstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// The next version of the program, as its log would be: a command that is not there now, and one
// with fields that are not.
type (
	lateCommand struct{ Text string }
	report      struct {
		Node  api.Node
		Extra *addition `json:",omitempty" since:"8"`
		Each  map[string]addition
	}
	addition struct {
		Old string
		New string `json:",omitempty" since:"9"`
	}
)

func (lateCommand) Type() string { return "late" }
func (report) Type() string      { return "report" }

const nextFormat = state.FormatFirst + 1

// next returns the dialect of the next version.
func next() *dialect {
	d := &dialect{newest: nextFormat, kinds: map[string]kind{"late": {typ: reflect.TypeFor[lateCommand](), since: nextFormat}}}
	for name, k := range present.kinds {
		d.kinds[name] = k
	}
	return d
}

// old returns the dialect that a rack begins with.
func old() *dialect {
	d := next()
	d.newest = state.FormatFirst
	delete(d.kinds, "late")
	return d
}

func server(id string, newest uint32) state.Entry {
	return state.Entry{At: time.Unix(1, 0), Actor: "rack", Command: state.PutServer{Server: api.Server{
		ID: id, Name: id, Raft: id, Version: fmt.Sprint("v", newest), Formats: api.Formats{Oldest: 1, Newest: newest}}}}
}

// A rack of two versions: what the old one cannot read is not proposed and the error says who is
// behind. Once all are new the format is raised, and an old program stops there, and does not start
// any more; until then every replica has the same bytes.
func TestTwoVersionsShareALog(t *testing.T) {
	c := newCluster(t, "s1", "s2", "s3")
	dialects := map[string]*dialect{"s1": next(), "s2": next(), "s3": old()}
	died := make(chan error, 3)
	c.prepare = func(id string, cfg *Config) {
		cfg.dialect = dialects[id]
		cfg.Died = func(err error) { died <- fmt.Errorf("%s: %w", id, err) }
	}
	c.start("s1", "s2", "s3")
	// The two new ones lead: the old one could not be asked for what is new.
	lead := func() *Store {
		wait(t, "new leader", func() bool {
			id := c.leader()
			if dialects[id].newest == state.FormatFirst {
				_ = c.stores[id].Resign() // another one is elected, or it is asked again
			}
			return dialects[id].newest == nextFormat
		})
		return c.stores[c.leader()]
	}
	propose := func(e state.Entry) error {
		r, err := lead().Propose(t.Context(), e)
		if err == nil && r.Err != nil {
			err = r.Err
		}
		return err
	}
	for id, d := range dialects {
		if err := propose(server(id, d.newest)); err != nil {
			t.Fatal(err)
		}
	}
	late := state.Entry{At: time.Unix(2, 0), Actor: "ann", Command: lateCommand{"hello"}}
	if err := propose(late); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "s3 (v2)") {
		t.Errorf("a command that s3 cannot read: %v", err)
	}
	raise := state.Entry{At: time.Unix(3, 0), Actor: "ann", Command: state.RaiseFormat{To: nextFormat}}
	if err := propose(raise); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "s3 (v2)") {
		t.Errorf("the format was raised: %v", err)
	}
	c.create("mixed", 5)
	c.same()

	// s3 claims to be new, which a rack could only be told by a defect: it must stop, not diverge.
	if err := propose(server("s3", nextFormat)); err != nil {
		t.Fatal(err)
	}
	if err := propose(late); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "rack upgrade --finish") {
		t.Errorf("a new command in an upgrade that is not finished: %v", err)
	}
	if err := propose(raise); err != nil {
		t.Fatal(err)
	}
	wait(t, "end of the old server", func() bool { return len(died) > 0 })
	if err := <-died; !strings.Contains(err.Error(), "s3: ") || !strings.Contains(err.Error(), "format 3 from here on, this program reads up to 2") {
		t.Errorf("it ends with %v", err)
	}
	s3 := c.stores["s3"]
	if err := s3.Snapshot(); err == nil {
		t.Error("a replica that cannot read on makes a snapshot")
	}
	if s3.View().Format() != state.FormatFirst {
		t.Errorf("it has format %d", s3.View().Format())
	}
	if r, err := lead().Propose(t.Context(), late); err != nil || api.CodeOf(r.Err) != api.CodeInternal {
		t.Errorf("the new command after that: %v, %v; the state of this test does not know it", r.Err, err)
	}
	c.stop("s3")
	c.same()

	// Its new version goes on where it stopped; the old one does not start on that any more.
	dialects["s3"] = next()
	c.start("s3")
	c.create("after", 3)
	c.same()
	c.stop("s3")
	_, transport := raft.NewInmemTransport("s3")
	_, err := Open(Config{Dir: c.dirs["s3"], ID: "s3", Transport: transport, Tune: fast, dialect: old()})
	if api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "has format 3") {
		t.Errorf("the old program starts: %v", err)
	}
}

// same waits until all replicas that run have applied the same, and compares their bytes.
func (c *cluster) same() {
	c.t.Helper()
	last := c.stores[c.leader()]
	if err := last.Barrier(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	want := last.View()
	var bytesOf []string
	for id, s := range c.stores {
		wait(c.t, "same index on "+id, func() bool { return s.View().Index() >= want.Index() })
		var b bytes.Buffer
		if err := s.View().Encode(&b); err != nil {
			c.t.Fatal(err)
		}
		bytesOf = append(bytesOf, b.String())
	}
	if len(slices.Compact(bytesOf)) != 1 {
		c.t.Fatalf("the replicas differ:\n%s", strings.Join(bytesOf, "\n---\n"))
	}
}

// Whatever a newer program writes, an older one reads all of it, as the newer one does, or nothing
// of it: then it has a clear error. A field, a command, an element of the envelope that it does not
// know is never left out.
func TestOldReadersReadAllOrNothing(t *testing.T) {
	reader, writer := old(), next()
	rapid.Check(t, func(t *rapid.T) {
		e := []state.Entry{drawNew(t)}
		b, err := writer.encode(e)
		if err != nil {
			t.Fatal(err)
		}
		b, strange := twist(t, b)
		got, err := reader.decode(b)
		same, nerr := writer.decode(b)
		switch {
		case err != nil && !strings.Contains(err.Error(), "newer version") && !strings.Contains(err.Error(), "unknown field"):
			t.Fatalf("not a clear error: %v", err)
		case err == nil && strange:
			t.Fatalf("read in spite of what it does not know: %+v", got)
		case err == nil && (nerr != nil || !reflect.DeepEqual(got, same)):
			t.Fatalf("the old program reads %+v, the new one %+v, %v", got, same, nerr)
		case err != nil && !strange && e[0].Command.Type() != "late":
			t.Fatalf("not read: %v", err)
		}
	})
}

// drawNew draws what the next version may write.
func drawNew(t *rapid.T) state.Entry {
	text := rapid.String()
	commands := []state.Command{
		lateCommand{text.Draw(t, "text")}, state.RaiseFormat{To: nextFormat}, state.LockApp{App: api.AppName(text.Draw(t, "app"))},
		state.CreateApp{App: api.App{Name: "shop"}}, drawPlan(t),
		state.UpdateNode{Node: "n1", Labels: map[string]string{text.Draw(t, "key"): text.Draw(t, "value")}},
	}
	return state.Entry{At: time.Unix(1, 0).UTC(), Actor: text.Draw(t, "actor"), Command: rapid.SampledFrom(commands).Draw(t, "command")}
}

// twist adds what neither program knows to an entry, or leaves it.
func twist(t *rapid.T, b []byte) (out []byte, strange bool) {
	var batch pb.Batch
	if err := proto.Unmarshal(b, &batch); err != nil {
		t.Fatal(err)
	}
	c := batch.Command[0]
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7)
	switch how := rapid.IntRange(0, 4).Draw(t, "twist"); how {
	case 1:
		c.ProtoReflect().SetUnknown(unknown)
	case 2:
		batch.ProtoReflect().SetUnknown(unknown)
	case 3:
		c.Version = nextFormat
	case 4:
		var doc map[string]any
		if json.Unmarshal(c.Body, &doc) != nil {
			return b, false // a plan
		}
		doc["FromTheFuture"] = true
		c.Body = pb.Marshal(doc)
	default:
		return b, false
	}
	out, err := proto.Marshal(&batch)
	if err != nil {
		t.Fatal(err)
	}
	return out, true
}

// Late fields decide which format a command needs, and are left out for an older one.
func TestLateFields(t *testing.T) {
	d := &dialect{newest: 9, kinds: map[string]kind{"report": {typ: reflect.TypeFor[report](), since: 1, late: hasLate(reflect.TypeFor[report]())}}}
	r := report{Node: api.Node{ID: "n1"}, Extra: &addition{New: "x"}, Each: map[string]addition{"a": {Old: "o", New: "n"}}}
	for _, c := range []struct {
		c    report
		want uint32
		what string
	}{
		{report{Node: r.Node, Each: map[string]addition{"a": {Old: "o"}}}, 1, "report"},
		{report{Extra: &addition{}}, 8, "report.Extra"},
		{report{Each: r.Each}, 9, "report.New"},
		{r, 9, "report.New"},
	} {
		if got, what := d.needs(c.c); got != c.want || what != c.what {
			t.Errorf("%+v needs %d for %s, want %d for %s", c.c, got, what, c.want, c.what)
		}
	}
	for format, want := range map[uint32]report{
		9: r, 8: {Node: r.Node, Extra: &addition{}, Each: map[string]addition{"a": {Old: "o"}}}, 7: {Node: r.Node, Each: map[string]addition{"a": {Old: "o"}}},
	} {
		got, err := lowered(r, format)
		if err != nil || !reflect.DeepEqual(got, state.Command(want)) {
			t.Errorf("for format %d: %+v, %v; want %+v", format, got, err, want)
		}
		if n, _ := d.needs(got); n > format {
			t.Errorf("what was left for format %d needs %d", format, n)
		}
	}
	if r.Extra == nil || r.Each["a"].New != "n" {
		t.Error("the original was changed")
	}
}

// TestFieldsAreKnown keeps the list of what commands can say. A server of the version before stops at
// a field that it does not know, so a new one needs its format.
func TestFieldsAreKnown(t *testing.T) {
	var lines []string
	for name, k := range present.kinds {
		if k.since > state.FormatFirst {
			continue
		}
		lines = append(lines, name)
		fieldsOf(k.typ, name, map[reflect.Type]bool{}, func(path string, f reflect.StructField) {
			since := sinceOf(f)
			if opt := f.Tag.Get("json"); since > 0 && !strings.Contains(opt, "omitempty") && !strings.Contains(opt, "omitzero") {
				t.Errorf("%s came with format %d and is written even where it is empty; give it the JSON option omitzero", path, since)
			}
			if since == 0 {
				lines = append(lines, path)
			}
		})
	}
	slices.Sort(lines)
	const file = "testdata/fields.txt"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, l := range lines {
		if !slices.Contains(known, l) {
			t.Errorf("%s is new: servers of the version before would stop at it. Give it the tag since:\"%d\" and omitzero (see format.go), or, while nothing is released, take it in: UPDATE=1 go test ./raftstore", l, state.FormatFirst+1)
		}
	}
	for _, l := range known {
		if !slices.Contains(lines, l) {
			t.Errorf("%s is gone: what an older version has written cannot be read any more. Keep it, or, while nothing is released, let it go: UPDATE=1 go test ./raftstore", l)
		}
	}
}
