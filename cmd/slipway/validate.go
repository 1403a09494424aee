package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"slipway/manifest"
)

func (s *shell) validateCommand() *cobra.Command {
	name := ""
	c := s.verb(verb{
		use: "validate [DIR]", short: "Check a manifest without a rack",
		long: "Check the manifest of a directory and show what the rack makes of it: the dialect, warnings, services.\n" +
			"Variables of the environment are taken from this command's own.",
		example: "  slipway validate\n  slipway validate -m convox.yml --json", args: between(0, 1),
		run: func(_ context.Context, args []string) error { return s.validate(directory(args), name) },
	})
	c.Flags().StringVarP(&name, "manifest", "m", "", "the manifest (default: slipway.yml, or convox.yml)")
	return c
}

func (s *shell) validate(dir, name string) error {
	file, err := readManifest(dir, name)
	if err != nil {
		return err
	}
	m, err := manifest.Load(file.text, manifest.Options{Env: s.manifestEnv(), SkipRequired: true})
	if err != nil {
		if problems, ok := errors.AsType[*manifest.Problems](err); ok {
			report := func() error { return s.printWarnings(problems.Warnings) } // a typo often explains an error
			if err := s.print(refusal{file.name, problems}, report); err != nil {
				return err
			}
		}
		return fmt.Errorf("%s: %w", file.name, err)
	}
	return s.print(validated{file.name, m}, func() error { return s.printManifest(file.name, m) })
}

// validated is the document for a manifest that is valid; docs/manifest.md lists its fields.
type validated struct {
	File string `json:"file"`
	*manifest.Manifest
}

// refusal is the document for a manifest that is not.
type refusal struct {
	File string `json:"file"`
	*manifest.Problems
}

// manifestEnv is this command's own environment, without names that no app could have.
func (s *shell) manifestEnv() map[string]string {
	env := map[string]string{}
	for name, value := range s.env {
		if _, err := manifest.Load("services: {}", manifest.Options{Env: map[string]string{name: value}}); err == nil {
			env[name] = value
		}
	}
	return env
}

func (s *shell) printWarnings(warnings []manifest.Warning) error {
	for _, w := range warnings {
		if err := s.answer("warning: " + clean(w.String())); err != nil {
			return err
		}
	}
	return nil
}

func (s *shell) printManifest(name string, m *manifest.Manifest) error {
	if err := s.answer(fmt.Sprintf("%s is valid (dialect %s)", name, m.Dialect)); err != nil {
		return err
	}
	if err := s.printWarnings(m.Warnings); err != nil {
		return err
	}
	for _, path := range m.NotActing {
		if err := s.answer(clean(path) + " is understood and has no effect yet"); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, spec := range m.Specs() {
		from := spec.Image
		if spec.Build != nil {
			from = "build " + spec.Build.Path
		}
		port := ""
		if spec.Port.Number != 0 {
			port = fmt.Sprintf("%s:%d", spec.Port.Scheme, spec.Port.Number)
		}
		rows = append(rows, []string{
			string(spec.Name), from, port, fmt.Sprint(spec.Scale.Count), fmt.Sprint(int64(spec.Scale.Ask.CPU)), spec.Scale.Ask.Memory.String(),
		})
	}
	return s.table([]string{"SERVICE", "FROM", "PORT", "COUNT", "CPU", "MEMORY"}, rows)
}
