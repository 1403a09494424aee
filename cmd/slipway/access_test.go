package main

import (
	"os"
	"strings"
	"testing"

	"slipway/docs"
)

// TestAccessDoc parses every command of docs/access.md.
func TestAccessDoc(t *testing.T) {
	page, err := os.ReadFile("../../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := docs.Commands(string(page), "slipway")
	if len(commands) < 12 {
		t.Errorf("only %d commands", len(commands))
	}
	for _, args := range commands {
		if err := parses(args); err != nil {
			t.Errorf("slipway %s: %v", strings.Join(args, " "), err)
		}
	}
}
