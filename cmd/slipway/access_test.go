package main

import (
	"os"
	"strings"
	"testing"

	"slipway/docs"
)

// TestUsersDocs parses every command of the pages for users of a rack.
func TestUsersDocs(t *testing.T) {
	for file, least := range map[string]int{"access.md": 12, "convox.md": 6} {
		page, err := os.ReadFile("../../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		commands := docs.Commands(string(page), "slipway")
		if len(commands) < least {
			t.Errorf("%s has only %d commands", file, len(commands))
		}
		for _, args := range commands {
			if err := parses(args); err != nil {
				t.Errorf("%s: slipway %s: %v", file, strings.Join(args, " "), err)
			}
		}
	}
}
