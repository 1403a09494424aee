package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"slipway/api"
	"slipway/api/client"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"slipway": main})
}

// TestScripts runs every verb against a rack: the real control service, Raft store, steps and
// scheduler, with agents that pretend. Run it with -update to rewrite the expected output.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		WorkdirRoot:   t.TempDir(), // its own it would leave behind
		UpdateScripts: os.Getenv("UPDATE") != "",
		Setup:         setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"slip": slip, "document": document, "settle": settle, "until": until, "agent": agent, "rack": rack,
			"export": export, "ci": ci,
		},
	})
}

type (
	namesKey struct{}
	rackKey  struct{}
	testKey  struct{}
)

// agent tells the nodes what to do, or waits for what clients do with them: agent
// hold|go|leave|return, agent hung|read|unread, agent join|fail NODE.
func agent(ts *testscript.TestScript, neg bool, args []string) {
	a := ts.Value(rackKey{}).(*testRack).agent
	switch {
	case len(args) == 2 && args[0] == "join":
		a.join(api.NodeID(args[1]), 8*api.GiB)
		return
	case len(args) == 2 && args[0] == "fail":
		a.fail(api.NodeID(args[1]))
		return
	case neg || len(args) != 1:
		ts.Fatalf("usage: agent WORD")
	}
	await := func(what string, reached func() bool) {
		for deadline := time.Now().Add(20 * time.Second); !reached(); time.Sleep(time.Millisecond) { // polls
			if time.Now().After(deadline) {
				ts.Fatalf("%s: not after 20 s", what)
			}
		}
	}
	switch args[0] {
	case "hold", "go":
		a.hold(args[0] == "hold")
	case "leave", "return":
		a.away.Store(args[0] == "leave")
	case "hung":
		await("the command hang runs", func() bool { return a.hung.Load() > 0 })
	case "read":
		await("somebody follows a log", func() bool { return a.readers.Load() > 0 })
	case "unread":
		await("nobody follows a log", func() bool { return a.readers.Load() == 0 })
	default:
		ts.Fatalf("the agent does not know how to %s", args[0])
	}
}

// rack puts the rack out of reach, and back: rack shut|open.
func rack(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: rack shut|open")
	}
	ts.Value(rackKey{}).(*testRack).door.set(args[0] == "shut")
}

// setup starts a rack for a script and logs it in.
func setup(env *testscript.Env) error {
	t := env.T().(testing.TB)
	r := startRack(t)
	ca := filepath.Join(env.WorkDir, ".ca.crt")
	if err := os.WriteFile(ca, r.ca.PEM(), 0o600); err != nil {
		return err
	}
	conf := filepath.Join(env.WorkDir, ".config.json")
	s := newShell(nil, nil, nil, []string{"SLIPWAY_CONFIG=" + conf})
	err := s.saveConfig(config{Current: "test", Racks: map[string]client.Context{
		"test":   {Addr: r.addr, CA: string(r.ca.PEM()), Token: r.tokens["admin"]},
		"viewer": {Addr: r.addr, CA: string(r.ca.PEM()), Token: r.tokens["viewer"]},
		"scoped": {Addr: r.addr, CA: string(r.ca.PEM()), Token: r.tokens["scoped"]},
		"wrong":  {Addr: r.addr, CA: string(r.ca.PEM()), Token: "slip_wrong"},
		"down":   {Addr: "127.0.0.1:1", CA: string(r.ca.PEM()), Token: "slip_wrong"},
	}})
	env.Setenv("SLIPWAY_CONFIG", conf)
	env.Setenv("ADDR", r.addr)
	env.Setenv("CA", ca)
	env.Setenv("TOKEN", r.tokens["admin"])
	env.Values[rackKey{}], env.Values[testKey{}] = r, t
	env.Values[namesKey{}] = &names{known: map[string]string{}, real: map[string]string{}, count: map[string]int{}}
	return err
}

// slip runs slipway and checks its exit code: slip CODE ARGS…. What it printed is in the files
// out and err, with IDs and times replaced by names; the names may be used in ARGS.
func slip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: slip CODE ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := runSlipway(ts, args[1:]); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// document runs slipway with --json and checks its exit code, and that it printed one document
// and nothing else to standard output: document CODE ARGS….
func document(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: document CODE ARGS...")
	}
	slip(ts, neg, append([]string{args[0], "--json"}, args[1:]...))
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	var doc any
	if err := d.Decode(&doc); err != nil {
		ts.Fatalf("standard output is no document: %v", err)
	}
	if err := d.Decode(&doc); !errors.Is(err, io.EOF) {
		ts.Fatalf("standard output is more than one document: %v", err)
	}
}

// settle runs slipway until what it prints is what a file says: settle FILE ARGS…. It is for
// what a rack reaches a moment after the command that asked for it.
func settle(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: settle FILE ARGS...")
	}
	want := ts.ReadFile(args[0])
	poll(ts, args[1:], want, func(got string) bool { return got == want })
}

// until runs slipway until a line of what it prints matches: until PATTERN ARGS….
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN ARGS...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	poll(ts, args[1:], args[0], pattern.MatchString)
}

// poll runs slipway until its output is as wanted.
func poll(ts *testscript.TestScript, args []string, want string, wanted func(string) bool) {
	for deadline := time.Now().Add(20 * time.Second); ; {
		code := runSlipway(ts, args)
		got := ts.ReadFile("out")
		if code == 0 && wanted(got) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("after 20 s, exit code %d and\n%swant\n%s", code, got, want)
		}
		time.Sleep(20 * time.Millisecond) // polls, does not order anything
	}
}

// runSlipway runs slipway, keeps what it printed in the files out and err, and returns its exit
// code.
func runSlipway(ts *testscript.TestScript, args []string) int {
	n := ts.Value(namesKey{}).(*names)
	words := make([]string, 0, len(args))
	for _, a := range args {
		words = append(words, n.expand(a))
	}
	err := ts.Exec("slipway", words...)
	code := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else {
		ts.Check(err)
	}
	for file, stream := range map[string]string{"out": "stdout", "err": "stderr"} {
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(ts.ReadFile(stream)), 0o600))
	}
	for _, file := range []string{"out", "err"} {
		text := n.replace(ts.ReadFile(file), ts.Getenv("ADDR"), ts.MkAbs("."))
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
	return code
}

// names gives IDs names that are the same in every run, in the order in which they appear.
type names struct {
	known, real map[string]string
	count       map[string]int
}

var (
	idRule     = regexp.MustCompile(`\b(?:[BRDT][A-Z]{10}|p[a-z]{10})\b`)
	secretRule = regexp.MustCompile(`slip_[a-z2-7]{52}`)
	agoRule    = regexp.MustCompile(`\b(?:now|\d+ (?:second|minute)s? ago)\b *`)
	tookRule   = regexp.MustCompile(`\b\d+\.\d s\b`)
	stampRule  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`)
	digestRule = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	sizeRule   = regexp.MustCompile(`\b\d+ files?, \d+(?:\.\d+)? [KMG]?i?B\b`)
	nanosRule  = regexp.MustCompile(`("took": )\d+`)
	indexRule  = regexp.MustCompile(`("index": ?)\d+`)
	// gapRule is the space between columns, which is as wide as the age of something needs.
	gapRule = regexp.MustCompile(` {2,}`)
	// stoppedRule is how many old copies had stopped when a deployment ended: of one that failed,
	// that depends on how fast they are.
	stoppedRule = regexp.MustCompile(`, \d+ stopped\b`)
	// moveRule is the progress of one process. Which moves are seen depends on how fast they are.
	moveRule = regexp.MustCompile(`(?m)^\S+ p[a-z]{10} on \S+: .*\n`)
)

func (n *names) replace(text, addr, dir string) string {
	text = moveRule.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, addr, "ADDR")
	text = strings.ReplaceAll(text, strings.TrimSuffix(dir, "/."), "DIR")
	text = idRule.ReplaceAllStringFunc(text, func(id string) string {
		if id == "DESCRIPTION" {
			return id // the head of a table
		}
		if n.known[id] == "" {
			kind := map[byte]string{'B': "BUILD", 'R': "RELEASE", 'D': "DEPLOY", 'p': "PROC", 'T': "TOKEN"}[id[0]]
			n.count[kind]++
			n.known[id] = fmt.Sprintf("%s%d", kind, n.count[kind])
			n.real[n.known[id]] = id
		}
		return n.known[id]
	})
	text = agoRule.ReplaceAllString(text, "AGO  ")
	text = tookRule.ReplaceAllString(text, "TOOK")
	text = sizeRule.ReplaceAllString(text, "SIZE")
	text = stoppedRule.ReplaceAllString(text, ", N stopped")
	text = stampRule.ReplaceAllString(text, "TIME")
	text = digestRule.ReplaceAllString(text, "DIGEST")
	text = secretRule.ReplaceAllString(text, "SECRET")
	text = nanosRule.ReplaceAllString(text, "${1}0")
	text = indexRule.ReplaceAllString(text, "${1}0")
	if !strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "[") {
		text = gapRule.ReplaceAllString(text, "  ")
	}
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimRight(line, " \n")+"\n")
	}
	return strings.Join(lines, "")
}

var nameRule = regexp.MustCompile(`\b(?:BUILD|RELEASE|DEPLOY|PROC|TOKEN)\d+\b`)

func (n *names) expand(arg string) string {
	return nameRule.ReplaceAllStringFunc(arg, func(name string) string {
		if id := n.real[name]; id != "" {
			return id
		}
		return name
	})
}
