package main

import (
	"context"

	"github.com/spf13/cobra"

	"slipway/api"
)

func (s *shell) registriesCommand() *cobra.Command {
	list := func(ctx context.Context, _ []string) error { return s.listRegistries(ctx) }
	c := s.verb(verb{
		use: "registries", short: "List and change the registries that builds pull from with a login", run: list,
		long: "List the registries outside the rack that builds pull images from with a login, those of FROM and those that\n" +
			"manifests name. Passwords are shown to nobody. What builds pulled before stays in the rack.",
		example: "  slipway registries\n  slipway registries add ghcr.io ann < token\n  slipway registries remove ghcr.io",
	})
	c.AddCommand(
		s.verb(verb{use: "list", short: "List registries", long: "List the registries that the rack has a login for.", example: "  slipway registries list", run: list}),
		s.verb(verb{
			use: "add SERVER USERNAME [PASSWORD]", short: "Give builds the login of a registry", args: between(2, 3),
			long: "Give the builds of all apps the login of a registry, in place of the one before. The password is read from\n" +
				"standard input, so that it stays out of the shell's history; on a terminal it is asked for. Docker Hub is\n" +
				"docker.io. Whether the login is right is seen by the next build.",
			example: "  slipway registries add registry.example.com:5000 ann < password\n  slipway registries add docker.io ann",
			run:     s.addRegistry,
		}),
		s.verb(verb{
			use: "remove SERVER", short: "Forget the login of a registry", args: between(1, 1), names: registryNames,
			long: "Forget the login of a registry. Builds that need it fail from then on.", example: "  slipway registries remove ghcr.io",
			run: func(ctx context.Context, args []string) error { return s.removeRegistry(ctx, args[0]) },
		}),
	)
	return c
}

func (s *shell) listRegistries(ctx context.Context) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	registries, err := rack.Registries(ctx)
	if err != nil {
		return err
	}
	return s.print(registries, func() error {
		var rows [][]string
		for _, r := range registries {
			rows = append(rows, []string{r.Server, r.Username, s.ago(r.Changed)})
		}
		return s.table([]string{"SERVER", "USERNAME", "CHANGED"}, rows)
	})
}

func (s *shell) addRegistry(ctx context.Context, args []string) error {
	login := api.RegistryLogin{Server: args[0], Username: args[1]}
	if _, err := api.RegistryServer(login.Server); err != nil {
		return usage("%w", err)
	}
	var err error
	if len(args) == 3 {
		login.Password = args[2]
	} else if login.Password, err = s.readSecret(ctx, "Password: "); err != nil {
		return err
	}
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	var r api.Registry
	err = s.step("Adding registry "+oneLine(login.Server), func() (string, error) {
		r, err = rack.PutRegistry(ctx, login)
		return "", err
	})
	if err != nil {
		return err
	}
	return s.print(r, nothing)
}

func (s *shell) removeRegistry(ctx context.Context, server string) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	err = s.step("Removing registry "+oneLine(server), func() (string, error) { return "", rack.RemoveRegistry(ctx, server) })
	if err != nil {
		return err
	}
	return s.print(map[string]any{"server": server, "removed": true}, nothing)
}
