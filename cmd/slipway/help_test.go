package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commands walks the tree of commands.
func commands(c *cobra.Command, see func(*cobra.Command)) {
	see(c)
	for _, sub := range c.Commands() {
		if sub.Name() != "help" {
			commands(sub, see)
		}
	}
}

// Every command says what it does, with an example that is a valid command line of it.
func TestEveryCommandHasAnExample(t *testing.T) {
	n := 0
	commands(newShell(nil, nil, nil, nil).root(), func(c *cobra.Command) {
		n++
		if strings.Contains(c.CommandPath(), "completion ") {
			return // cobra's own
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: its short text is %q", c.CommandPath(), c.Short)
		}
		if c.Long == "" || c.Example == "" {
			t.Errorf("%s has no long text or no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			example(t, c, strings.TrimRight(line, "\n"))
		}
	})
	if n < 50 {
		t.Errorf("only %d commands", n)
	}
}

// example checks one line of an example.
func example(t *testing.T, c *cobra.Command, line string) {
	t.Helper()
	text, ok := strings.CutPrefix(line, "  ")
	if !ok {
		t.Errorf("%s: example %q is not indented by two", c.CommandPath(), line)
	}
	text, _, _ = strings.Cut(text, " < ")
	text, _, _ = strings.Cut(text, " > ")
	words := shellWords(text)
	for len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:] // the environment of the command
	}
	if len(words) == 0 || words[0] != "slipway" {
		t.Errorf("%s: example %q is not about slipway", c.CommandPath(), line)
		return
	}
	found, rest, err := newShell(nil, nil, nil, nil).root().Find(words[1:])
	if err != nil {
		t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
		return
	}
	if !strings.HasPrefix(found.CommandPath(), c.CommandPath()) && c.Name() != "promote" {
		t.Errorf("%s: example %q is about %s", c.CommandPath(), line, found.CommandPath())
	}
	if err := found.ParseFlags(rest); err != nil {
		t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
	}
	if err := found.ValidateArgs(found.Flags().Args()); err != nil {
		t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
	}
}

// shellWords splits a command line; double quotes keep words together.
func shellWords(line string) []string {
	var words []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// What is said to somebody who types a verb of Convox that is not here names verbs that are.
func TestElsewhere(t *testing.T) {
	root := newShell(nil, nil, nil, nil).root()
	for words, hint := range elsewhere() {
		c, rest, err := root.Find(strings.Fields(words))
		if err == nil && len(rest) == 0 {
			t.Errorf("slipway %s is here: %s", words, c.CommandPath())
		}
		if _, line, ok := strings.Cut(hint, ": slipway "); ok {
			line, _, _ = strings.Cut(strings.ReplaceAll(line, "...", ""), ";")
			example(t, root, "  slipway "+line)
		}
	}
}

// The names that others rely on.
func TestNames(t *testing.T) {
	root := newShell(nil, nil, nil, nil).root()
	for _, line := range strings.Split(strings.TrimSpace(`
rack --json -r R
apps list
apps create A
apps info A
apps delete A
apps cancel A
apps lock A
apps wait A
apps create A -g 3 --wait
build D
builds list
builds info B
builds logs B
deploy D -a A -r R --json
deploy --attach
releases list
releases info R
releases diff R R
releases promote R
releases rollback R
env list
env get K
env set K=V K=V --promote
env unset K
env edit
services -a A --json
scale S=3
ps list
ps info P
ps stop P
logs -f --since 1h --filter T -s S
logs --no-follow
exec S -- ls -la
run S -- ls -la
run S --detach --release R -- ls
run S -t 3600 -e ls
test D -d T --release R -t 60
services list
services restart S
switch R
releases info R --reveal
env --reveal
releases promote R --force
releases create-from --build-from R --use-active-release-env --promote
rack ps
rack logs --no-follow --since 30m --filter T
instances terminate N
cp S:/a b
restart S
why
why O
explain S -a A --json
why-not S N
what-if node rm N
what-if node drain N
what-if node add --cpu 4 --memory 8192 --pool P --label k=v --count 3
what-if scale S=20 T=3
what-if deploy -m F
capacity --json
pools
pools set P --strategy spread
nodes info N
nodes drain N --yes --no-wait
nodes undrain N
nodes cordon N
nodes uncordon N
nodes label N k=v k-
nodes pool N P
nodes remove N --reason T
tokens --all
tokens create N --role deployer --app A --app B --expires 90d
tokens delete N
events --since 1h --all
events --last 50 -f
validate -m F --json
version
completion bash
events`), "\n") {
		words := strings.Fields(line)
		found, rest, err := root.Find(words)
		if err == nil {
			err = found.ParseFlags(rest)
		}
		if err == nil {
			err = found.ValidateArgs(found.Flags().Args())
		}
		if err != nil {
			t.Errorf("slipway %s: %v", line, err)
		}
	}
}
