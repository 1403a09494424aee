package logs

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"slipway/api"
	"slipway/runtime/logfmt"
)

func write(t *testing.T, s *Store, id api.ProcessID, service api.ServiceName, lines ...string) *logfmt.Writer {
	t.Helper()
	dir, err := s.Dir(id, "shop", service)
	if err != nil {
		t.Fatal(err)
	}
	w, err := logfmt.NewWriter(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(true) })
	for _, l := range lines {
		w.Write(logfmt.Stdout, time.Now(), []byte(l+"\n"))
	}
	return w
}

func TestHistoryIsMergedByTime(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := write(t, s, "pa", "web")
	b := write(t, s, "pb", "worker")
	for i := range 6 {
		w := a
		if i%2 == 1 {
			w = b
		}
		w.Write(logfmt.Stdout, time.Unix(int64(i), 0), []byte(fmt.Sprintf("line %d\n", i)))
	}
	a.Close(true)
	b.Close(true)
	read := func(q api.LogQuery) []string {
		var got []string
		if err := s.Read(t.Context(), q, func(l []api.LogLine) error {
			for _, x := range l {
				got = append(got, string(x.Service)+" "+x.Text)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := []string{"web line 0", "worker line 1", "web line 2", "worker line 3", "web line 4", "worker line 5"}
	if got := read(api.LogQuery{App: "shop"}); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := read(api.LogQuery{App: "shop", Service: "worker", Filter: "3"}); !slices.Equal(got, want[3:4]) {
		t.Errorf("filtered: %q", got)
	}
	if got := read(api.LogQuery{App: "other"}); len(got) != 0 {
		t.Errorf("another app sees %q", got)
	}
	if got := s.Tail("pa", 2); !slices.Equal(got, []string{"line 2", "line 4"}) {
		t.Errorf("tail %q", got)
	}
}

func TestFollowSeesNewProcesses(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := write(t, s, "pa", "web", "first")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []string
	err = s.Read(ctx, api.LogQuery{App: "shop", Follow: true}, func(l []api.LogLine) error {
		for _, x := range l {
			got = append(got, x.Stream+" "+x.Text)
			switch x.Text {
			case "first":
				w.Write(logfmt.Stderr, time.Now(), []byte("second\n"))
			case "second":
				write(t, s, "pb", "web", "third")
			case "third":
				s.System("pb", "running")
			case "running":
				cancel()
			}
		}
		return nil
	})
	want := []string{"stdout first", "stderr second", "stdout third", "system running"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// TestAReaderGoesOnWhereItStopped breaks off and reads again: of every log what comes after
// the line it knows, however the logs were merged.
func TestAReaderGoesOnWhereItStopped(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, b := write(t, s, "pa", "web"), write(t, s, "pb", "web")
	for i := range 5 {
		a.Write(logfmt.Stdout, time.Unix(int64(i), 0), []byte(fmt.Sprintf("a%d\n", i)))
		b.Write(logfmt.Stdout, time.Unix(int64(i), 0), []byte(fmt.Sprintf("b%d\n", i)))
	}
	s.System("pa", "a word of the rack")
	s.Ended("pa")
	a.Close(true)
	b.Close(true)
	// Of a only the first line was sent, although a younger one of b was.
	q := api.LogQuery{App: "shop", Since: time.Unix(0, 0), After: map[string]api.LogMark{
		api.LogName("pa", false): {At: time.Unix(0, 0), Seq: 1},
		api.LogName("pb", false): {At: time.Unix(3, 0), Seq: 4},
	}}
	var got []string
	if err := s.Read(t.Context(), q, func(lines []api.LogLine) error {
		for _, l := range lines {
			got = append(got, l.Text)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a1", "a2", "a3", "a4", "b4", "a word of the rack"}; !slices.Equal(got[:3], want[:3]) || len(got) != len(want) || !slices.Contains(got, "b4") || got[5] != want[5] {
		t.Errorf("read %q, want %q", got, want)
	}
}

// TestTheLastLinesOfAnEndedProcessAreWaitedFor reads them while they are still being written.
func TestTheLastLinesOfAnEndedProcessAreWaitedFor(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := write(t, s, "pa", "web", "first")
	got := make(chan []string)
	go func() {
		s.Complete(t.Context(), "pa")
		got <- s.Tail("pa", 5)
	}()
	w.Write(logfmt.Stderr, time.Now(), []byte("the reason\n"))
	w.Close(true)
	if lines := <-got; !slices.Equal(lines, []string{"first", "the reason"}) {
		t.Errorf("the last lines are %q", lines)
	}
	began := time.Now()
	s.Complete(t.Context(), "unknown")
	s.Complete(t.Context(), "pa")
	if took := time.Since(began); took > time.Second {
		t.Errorf("a log that is complete was waited for %s", took)
	}
}
