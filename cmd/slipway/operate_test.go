package main

import (
	"os"
	"strings"
	"testing"

	"slipway/docs"
)

// TestOperateDoc parses every command of this program in the pages for operators.
func TestOperateDoc(t *testing.T) {
	for _, file := range []string{"../../docs/operate.md", "../../docs/access.md", "../../packaging/prometheus/alerts.yml"} {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		commands := docs.Commands(string(page), "slipway")
		if len(commands) < 15 {
			t.Errorf("%s has only %d commands", file, len(commands))
		}
		for _, args := range commands {
			if err := parses(args); err != nil {
				t.Errorf("%s: slipway %s: %v", file, strings.Join(args, " "), err)
			}
		}
	}
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
