package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api/client"
)

func (s *shell) envEditVerb() *cobra.Command {
	f := envFlags{}
	c := s.verb(verb{
		use: "edit", short: "Change variables in an editor",
		long: "Open the environment in $EDITOR, one NAME=VALUE per line. What is changed, added or removed there is set\n" +
			"or unset; what others set meanwhile stays.\n" +
			"Values with line breaks cannot be edited this way; set them with `slipway env set`.",
		example: "  EDITOR=vim slipway env edit --promote",
		run:     func(ctx context.Context, _ []string) error { return s.editEnv(ctx, f) },
	})
	f.add(c)
	return c
}

func (s *shell) editEnv(ctx context.Context, f envFlags) error {
	editor := strings.Fields(orElse(s.env["VISUAL"], s.env["EDITOR"]))
	if len(editor) == 0 {
		return usage("no editor is chosen; set EDITOR")
	}
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	env, _, err := rack.Env(ctx, app, "")
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.ContainsAny(env[name], "\n\r") {
			return fmt.Errorf("the value of %s has line breaks and cannot be edited; use: slipway env set", name)
		}
		fmt.Fprintf(&text, "%s=%s\n", name, env[name])
	}
	edited, err := s.edit(ctx, editor, text.String())
	if err != nil {
		return err
	}
	set, err := parseEnv(edited)
	if err != nil {
		return err
	}
	change := difference(env, set)
	if len(change.Set)+len(change.Unset) == 0 {
		s.say("Nothing was changed.")
		return s.print(map[string]any{"changed": false}, nothing)
	}
	names := slices.Sorted(maps.Keys(change.Set))
	return s.changeEnv(ctx, "Changing "+strings.Join(append(names, change.Unset...), ", "), change, f)
}

// difference is what an editor changed. What others changed meanwhile stays.
func difference(from, to map[string]string) client.EnvChange {
	change := client.EnvChange{Set: map[string]string{}}
	for name, value := range to {
		if old, ok := from[name]; !ok || old != value {
			change.Set[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if _, ok := to[name]; !ok {
			change.Unset = append(change.Unset, name)
		}
	}
	return change
}

// edit lets an editor change a text, in a file that only its owner can read.
func (s *shell) edit(ctx context.Context, editor []string, text string) (string, error) {
	dir, err := os.MkdirTemp("", "slipway-env-")
	if err != nil {
		return "", fmt.Errorf("edit: %w", err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/env"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("edit: %w", err)
	}
	c := exec.CommandContext(ctx, editor[0], append(editor[1:], path)...)
	c.Stdin, c.Stdout, c.Stderr, c.Env = s.in, s.err, s.err, s.environ()
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("editor %s: %w; nothing was changed", editor[0], err)
	}
	edited, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("edit: %w", err)
	}
	return string(edited), nil
}
