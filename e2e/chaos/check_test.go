package chaos

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	// checkMax bounds the check of one object's history, in real time.
	checkMax = time.Minute
	// callsShown is how many calls before the one that breaks a history are printed.
	callsShown = 12
)

// violation is the history of one object that is not linearizable.
type violation struct {
	key    string
	result porcupine.CheckResult
	calls  []porcupine.Operation // up to the answer that no order of calls explains
	of     int                   // calls on the object in all
}

// check checks the history of every object, several at a time, and returns those that are wrong by
// their keys.
func check(histories ...*history) (found []violation) {
	var mu sync.Mutex
	var checking sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, h := range histories {
		for key, calls := range byKey(h.ended()) {
			slots <- struct{}{}
			checking.Go(func() {
				defer func() { <-slots }()
				result := porcupine.CheckOperationsTimeout(modelOf(key), calls, checkMax)
				if result == porcupine.Ok {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				found = append(found, violation{key, result, calls, len(calls)})
			})
		}
	}
	checking.Wait()
	slices.SortFunc(found, func(a, b violation) int { return strings.Compare(a.key, b.key) })
	for i := range found {
		if found[i].result == porcupine.Illegal {
			found[i].calls = shortest(modelOf(found[i].key), found[i].calls)
		}
	}
	return found
}

// shortest cuts a history behind the first answer that no order of calls explains: what was not
// answered by then has no outcome.
func shortest(model porcupine.Model, calls []porcupine.Operation) []porcupine.Operation {
	var answers []int64
	for _, c := range calls {
		answers = append(answers, c.Return)
	}
	slices.Sort(answers)
	n := sort.Search(len(answers)-1, func(i int) bool {
		return porcupine.CheckOperationsTimeout(model, until(calls, answers[i]), checkMax) == porcupine.Illegal
	})
	return until(calls, answers[n])
}

// until returns a history as it was at a time.
func until(calls []porcupine.Operation, at int64) (out []porcupine.Operation) {
	for _, c := range calls {
		switch {
		case c.Call > at || c.Return > at && c.Input.(input).reads():
			continue
		case c.Return > at:
			c.Output, c.Return = output{}, at
		}
		out = append(out, c)
	}
	return out
}

func (v violation) String() string {
	if v.result == porcupine.Unknown {
		return fmt.Sprintf("the %d calls on %s cannot be checked within %s", v.of, v.key, checkMax)
	}
	calls := slices.SortedFunc(slices.Values(v.calls), func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	var b strings.Builder
	fmt.Fprintf(&b, "the %d calls on %s are not linearizable; none explains the last answer here (began, answered, client):\n", v.of, v.key)
	if hidden := len(calls) - callsShown; hidden > 0 {
		fmt.Fprintf(&b, "  … %d calls\n", hidden)
		calls = calls[hidden:]
	}
	for _, c := range calls {
		fmt.Fprintf(&b, "  %6d %6d  c%-4d %s\n", c.Call, c.Return, c.ClientId, describe(c.Input, c.Output))
	}
	return b.String()
}

// page writes the history for a browser and returns where.
func (v violation) page() string {
	dir, err := os.MkdirTemp("", "slipway-chaos-failed-")
	if err != nil {
		return err.Error()
	}
	_, info := porcupine.CheckOperationsVerbose(modelOf(v.key), v.calls, checkMax)
	path := filepath.Join(dir, v.key+".html")
	if err := porcupine.VisualizePath(modelOf(v.key), info, path); err != nil {
		return err.Error()
	}
	return "the history: " + path
}

// report fails a test for what was found.
func report(t *testing.T, found []violation, again string) {
	t.Helper()
	for _, v := range found {
		t.Errorf("%s%s\nagain with: go test ./e2e/chaos %s", v, v.page(), again)
	}
}

// keysOf lists the objects of a history.
func keysOf(h *history) []string { return slices.Sorted(maps.Keys(byKey(h.ended()))) }

// TestAFailureShowsItsLastCalls: of a history that is wrong, what is shown ends with the answer
// that is wrong.
func TestAFailureShowsItsLastCalls(t *testing.T) {
	h := newHistory()
	call := func(op, arg string, out output) { h.end(h.begin(1, input{"label-0-0", op, arg}), out) }
	for i := range 40 {
		call("set", fmt.Sprint(i), done(""))
		call("get", "", done(fmt.Sprint(i)))
	}
	call("get", "", done("7")) // stale
	for i := range 40 {
		call("set", fmt.Sprint(i), done(""))
	}
	found := check(h)
	if len(found) != 1 {
		t.Fatalf("%d histories are wrong, want one", len(found))
	}
	text := found[0].String()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; !strings.HasSuffix(last, "get() → 7") || len(lines) > callsShown+2 {
		t.Errorf("it ends with %q:\n%s", last, text)
	}
	page := strings.TrimPrefix(found[0].page(), "the history: ")
	defer os.RemoveAll(filepath.Dir(page))
	if b, err := os.ReadFile(page); err != nil || !strings.Contains(string(b), "get() → 7") {
		t.Errorf("the page does not show it: %v", err)
	}
}
