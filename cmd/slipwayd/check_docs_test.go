package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"slipway/docs"
)

// TestOperateDoc parses every command of this program in the pages for operators, and what the
// units start.
func TestOperateDoc(t *testing.T) {
	for file, commands := range operatorsCommands(t) {
		if len(commands) == 0 {
			t.Errorf("%s has no commands", file)
		}
		for _, args := range commands {
			if err := parses(t, args); err != nil {
				t.Errorf("%s: slipwayd %s: %v", file, strings.Join(args, " "), err)
			}
		}
	}
}

// operatorsCommands finds command lines by file.
func operatorsCommands(t *testing.T) map[string][][]string {
	t.Helper()
	out := map[string][][]string{}
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, file := range []string{"../../docs/operate.md", "../../packaging/prometheus/alerts.yml", "../../packaging/etc/server.env", "../../packaging/etc/agent.env"} {
		text := read(file)
		if strings.HasSuffix(file, ".env") {
			text = "```sh\n" + strings.ReplaceAll(text, "#   ", "") + "```"
		}
		out[file] = docs.Commands(text, "slipwayd")
	}
	for _, role := range []string{"server", "agent"} {
		unit := "../../packaging/systemd/slipway-" + role + ".service"
		env := map[string]string{}
		for line := range strings.Lines(read("../../packaging/etc/" + role + ".env")) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
				env[name] = value
			}
		}
		for line := range strings.Lines(read(unit)) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=/usr/bin/slipwayd ")
			if !ok {
				continue
			}
			command = os.Expand(command, func(name string) string {
				if _, ok := env[name]; !ok {
					t.Errorf("%s wants %s, which its .env does not have", unit, name)
				}
				return env[name]
			})
			out[unit] = append(out[unit], strings.Fields(command))
		}
	}
	return out
}

// parses reports what is wrong with a command line: help is asked for after its flags were read.
func parses(t *testing.T, args []string) error {
	t.Helper()
	var out bytes.Buffer
	return run(t.Context(), append(slices.Clone(args), "--help"), nil, &out, &out)
}
