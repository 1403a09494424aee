package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"slipway/docs"
)

// notYet are commands that operate.md tells of and that are not there yet. Whoever makes one takes
// it out.
var notYet = []string{"rack ca", "rack ca rotate"}

// TestOperateDoc parses every command of this program in the pages for operators.
func TestOperateDoc(t *testing.T) {
	missing := map[string]bool{}
	for _, file := range []string{"../../docs/operate.md", "../../packaging/prometheus/alerts.yml"} {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		commands := docs.Commands(string(page), "slipway")
		if len(commands) < 15 {
			t.Errorf("%s has only %d commands", file, len(commands))
		}
		for _, args := range commands {
			err := parses(args)
			if verb := notYetVerb(args); verb != "" {
				missing[verb] = missing[verb] || err != nil
				continue
			}
			if err != nil {
				t.Errorf("%s: slipway %s: %v", file, strings.Join(args, " "), err)
			}
		}
	}
	for _, verb := range notYet {
		if !missing[verb] {
			t.Errorf("slipway %s is there now, or no page tells of it: take it out of notYet", verb)
		}
	}
}

// notYetVerb returns the longest entry of notYet that a command begins with.
func notYetVerb(args []string) (verb string) {
	for _, v := range notYet {
		words := strings.Fields(v)
		if len(args) >= len(words) && slices.Equal(args[:len(words)], words) && len(v) > len(verb) {
			verb = v
		}
	}
	return verb
}

// parses reports what is wrong with a command line.
func parses(args []string) error {
	found, rest, err := newShell(nil, nil, nil, nil).root().Find(args)
	if err != nil {
		return err
	}
	if found.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return usage("unknown command %q", rest[0])
	}
	if err := found.ParseFlags(rest); err != nil {
		return err
	}
	return found.ValidateArgs(found.Flags().Args())
}
