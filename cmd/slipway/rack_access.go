package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

// accessRoles has the words of Convox for roles, beside those of the rack.
func accessRoles() map[string]string {
	return map[string]string{
		"read": api.RoleViewer, "write": api.RoleDeployer,
		api.RoleViewer: api.RoleViewer, api.RoleDeployer: api.RoleDeployer, api.RoleAdmin: api.RoleAdmin,
	}
}

func (s *shell) accessCommand() *cobra.Command {
	role, expires, hours := "", "12h", 0
	c := s.verb(verb{
		use: "access", short: "Make the RACK_URL that the convox CLI takes",
		long: "Make a token and print it as the RACK_URL of the convox CLI and of other programs that speak to the rack API.\n" +
			"Roles are admin, deployer and viewer, or, as Convox calls them, admin, write and read. slipway tokens lists and\n" +
			"deletes what was made.",
		example: "  slipway rack access --role write\n  slipway rack access --role read --expires 90d",
		run: func(ctx context.Context, _ []string) error {
			known, ok := accessRoles()[role]
			if !ok {
				return usage("--role is one of admin, deployer and viewer, or of admin, write and read")
			}
			life, err := parseLife(expires)
			if err != nil {
				return err
			}
			if hours > 0 {
				life = time.Duration(hours) * time.Hour
			}
			return s.access(ctx, known, life)
		},
	})
	c.Flags().StringVar(&role, "role", "", "admin, deployer or viewer")
	c.Flags().StringVar(&expires, "expires", expires, "when it ends: 90d, 12h, never")
	c.Flags().IntVar(&hours, "duration-in-hours", 0, "the same, in hours")
	return c
}

func (s *shell) access(ctx context.Context, role string, life time.Duration) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	host, err := s.apiHost(ctx, rack)
	if err != nil {
		return err
	}
	random := make([]byte, 6)
	_, _ = rand.Read(random) // never fails, by its contract
	token, secret, err := rack.CreateToken(ctx, client.NewToken{Name: "jwt-" + role + "-" + hex.EncodeToString(random), Role: role, Life: life})
	if err != nil {
		return err
	}
	at := url.URL{Scheme: "https", User: url.UserPassword("jwt", secret), Host: host}
	return s.print(map[string]any{"url": at.String(), "token": token}, func() error { return s.answer("RACK_URL=" + at.String()) })
}

// apiHost is where the rack API answers: on the machine that the rack is reached at, on the port for
// HTTPS of the server there.
func (s *shell) apiHost(ctx context.Context, rack *client.Client) (string, error) {
	servers, err := rack.Servers(ctx)
	if err != nil {
		return "", err
	}
	conf, err := s.loadConfig()
	if err != nil {
		return "", err
	}
	_, target, err := s.chooseRack(conf)
	if err != nil {
		return "", err
	}
	i := max(slices.IndexFunc(servers, func(one api.Server) bool { return one.Addr == target.Addr }), 0)
	host, _, err := net.SplitHostPort(target.Addr)
	if err != nil {
		return "", fmt.Errorf("address %q of the rack: %w", target.Addr, err)
	}
	if len(servers) == 0 {
		return "", api.Errorf(api.CodeUnavailable, "the rack names none of its servers; try again in a moment")
	}
	_, port, err := net.SplitHostPort(servers[i].Registry)
	if err != nil {
		return "", fmt.Errorf("server %s does not tell its port for HTTPS: %w", servers[i].Called(), err)
	}
	return net.JoinHostPort(host, port), nil
}
