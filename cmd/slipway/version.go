package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

func (s *shell) versionCommand() *cobra.Command {
	return s.verb(verb{
		use: "version", short: "Print the versions of the client and the rack", example: "  slipway version",
		long: "Print the version of this command and, if one is chosen, of the rack.",
		run: func(ctx context.Context, _ []string) error {
			if !s.json {
				if err := s.answer("client: " + version); err != nil {
					return err
				}
			}
			doc := map[string]string{"client": version}
			rack, err := s.connect(ctx)
			if err != nil {
				return s.print(doc, nothing) // no rack is chosen
			}
			info, err := rack.Rack(ctx)
			if err != nil {
				return err
			}
			doc["server"], doc["rack"] = info.Version, info.Name
			return s.print(doc, func() error { return s.answer(fmt.Sprintf("server: %s (%s)", info.Version, info.Name)) })
		},
	})
}
