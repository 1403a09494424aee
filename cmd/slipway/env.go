package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

// envFlags are what the verbs share that change an environment.
type envFlags struct {
	promote, replace, wait, id bool
	ifRelease                  string
}

func (s *shell) envCommand() *cobra.Command {
	release := ""
	list := func(ctx context.Context, _ []string) error { return s.printEnv(ctx, release) }
	c := s.verb(verb{
		use: "env", short: "Show and change the environment of an app", run: list,
		long: "Print the environment of the newest release. Every change makes a new release, which takes effect when\n" +
			"it is promoted.",
		example: "  slipway env\n  slipway env set KEY=value --promote\n  slipway env set < .env",
	})
	c.PersistentFlags().StringVar(&release, "release", "", "of this release instead of the newest")
	c.AddCommand(
		s.verb(verb{
			use: "list", short: "Print all variables", long: "Print all variables, one NAME=VALUE per line.",
			example: "  slipway env list --release v3", run: list,
		}),
		s.verb(verb{
			use: "get NAME", short: "Print one variable", long: "Print the value of one variable, and nothing else.",
			example: "  slipway env get DATABASE_URL", args: between(1, 1),
			run: func(ctx context.Context, args []string) error { return s.getEnv(ctx, release, args[0]) },
		}),
		s.envSetVerb(), s.envUnsetVerb(), s.envEditVerb(),
	)
	return c
}

func (f *envFlags) add(c *cobra.Command) {
	c.Flags().BoolVarP(&f.promote, "promote", "p", false, "deploy the new release at once")
	c.Flags().BoolVarP(&f.wait, "wait", "w", true, "wait until the deployment has ended")
	c.Flags().BoolVar(&f.id, "id", false, "print only the ID of the release to standard output")
	c.Flags().StringVar(&f.ifRelease, "if-release", "", "only if this release is still the newest (ID or vN; none: there is none yet); exit code 3 otherwise")
}

func (s *shell) envSetVerb() *cobra.Command {
	f := envFlags{}
	c := s.verb(verb{
		use: "set [NAME=VALUE...]", short: "Set variables", args: between(0, -1),
		long: "Set variables. Without arguments, they are read from standard input, one NAME=VALUE per line.\n" +
			"Of two who change an environment at once, none loses anything. With --if-release, a change that was\n" +
			"worked out from one release is refused once there is a newer one.",
		example: "  slipway env set KEY=value OTHER=value --promote\n  slipway env set --replace < .env\n  slipway env set KEY=value --if-release v4",
		run: func(ctx context.Context, args []string) error {
			set, err := s.variables(ctx, args)
			if err != nil {
				return err
			}
			what := "Setting " + strings.Join(slices.Sorted(maps.Keys(set)), ", ")
			return s.changeEnv(ctx, what, client.EnvChange{Set: set, Replace: f.replace}, f)
		},
	})
	f.add(c)
	c.Flags().BoolVar(&f.replace, "replace", false, "remove all variables that are not given")
	return c
}

func (s *shell) envUnsetVerb() *cobra.Command {
	f := envFlags{}
	c := s.verb(verb{
		use: "unset NAME...", short: "Remove variables", long: "Remove variables.",
		example: "  slipway env unset KEY --promote", args: between(1, -1),
		run: func(ctx context.Context, args []string) error {
			return s.changeEnv(ctx, "Unsetting "+strings.Join(args, ", "), client.EnvChange{Unset: args}, f)
		},
	})
	f.add(c)
	return c
}

// envInputMax bounds what is read from standard input, in bytes. A rack accepts less.
const envInputMax = 1 << 20

// variables reads NAME=VALUE from arguments, or, without any, from standard input.
func (s *shell) variables(ctx context.Context, args []string) (map[string]string, error) {
	if len(args) > 0 {
		env := map[string]string{}
		for i, arg := range args {
			if !setVariable(env, arg) {
				return nil, usage("argument %d is not of the form NAME=VALUE", i+1)
			}
		}
		return env, nil
	}
	if terminal(s.in) != nil {
		return nil, usage("env set takes NAME=VALUE, or reads them from standard input")
	}
	text, err := s.readInput(ctx, envInputMax)
	if err != nil {
		return nil, err
	}
	return parseEnv(text)
}

// parseEnv reads the lines of a file of variables: blank ones and comments do not count. An
// error does not show the line, which may be part of a secret.
func parseEnv(text string) (map[string]string, error) {
	env := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(strings.TrimLeft(line, " \t"), "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if !setVariable(env, line) {
			return nil, usage("line %d is not of the form NAME=VALUE; a value with line breaks can only be an argument", n)
		}
	}
	return env, nil
}

// setVariable reads NAME=VALUE. The value is everything after the first "=", as it stands.
func setVariable(env map[string]string, text string) bool {
	name, value, ok := strings.Cut(text, "=")
	if ok && name != "" {
		env[name] = value
	}
	return ok && name != ""
}

// changeEnv makes a release with a changed environment, and deploys it on request.
func (s *shell) changeEnv(ctx context.Context, what string, change client.EnvChange, f envFlags) error {
	if len(change.Set)+len(change.Unset) == 0 && !change.Replace && change.Build == "" {
		return usage("no variable is given")
	}
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	s.quiet, change.IfRelease = f.id, f.ifRelease
	var r api.ReleaseInfo
	err = s.step(what, func() (string, error) {
		r, err = rack.SetEnv(ctx, app, change)
		return "", err
	})
	if err != nil {
		return err
	}
	s.say("Release: %s", r.ID)
	if f.promote {
		return s.promote(ctx, rack, app, string(r.ID), promotion{wait: f.wait, id: f.id})
	}
	if f.id {
		return s.answer(string(r.ID))
	}
	return s.print(r, nothing)
}

func (s *shell) printEnv(ctx context.Context, release string) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	env, _, err := rack.Env(ctx, app, release)
	if err != nil {
		return err
	}
	return s.print(env, func() error {
		text := envText(env)
		if terminal(s.out) != nil {
			text = clean(text)
		}
		if text == "" {
			return nil
		}
		return s.answer(text)
	})
}

// envText writes an environment, a variable per line.
func envText(env map[string]string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		lines = append(lines, name+"="+env[name])
	}
	return strings.Join(lines, "\n")
}

func (s *shell) getEnv(ctx context.Context, release, name string) error {
	rack, app, err := s.open(ctx)
	if err != nil {
		return err
	}
	env, _, err := rack.Env(ctx, app, release)
	if err != nil {
		return err
	}
	value, ok := env[name]
	if !ok {
		return api.NotFoundSee("environment variable", name, slices.Sorted(maps.Keys(env)), "slipway env -a "+string(app))
	}
	return s.print(map[string]string{name: value}, func() error { return s.answer(value) })
}
