package main

import (
	"context"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (s *shell) versionCommand() *cobra.Command {
	return s.verb(verb{
		use: "version", short: "Print the versions of the client and the rack", example: "  slipway version",
		long: "Print the version of this command and, if one is chosen, of the rack.",
		run: func(ctx context.Context, _ []string) error {
			doc := map[string]string{"client": version()}
			rack, err := s.connect(ctx)
			if err == nil {
				info, err := rack.Rack(ctx)
				if err != nil {
					return err
				}
				doc["server"], doc["rack"] = info.Version, info.Name
			}
			return s.print(doc, func() error {
				if rack == nil {
					return s.answer("client: " + doc["client"])
				}
				return s.answer("client: " + doc["client"] + "\nserver: " + doc["server"] + " (" + doc["rack"] + ")")
			})
		},
	})
}

// version is what the build stamped into the binary.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "dev"
	}
	return info.Main.Version
}
