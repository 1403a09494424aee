package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) loginCommand() *cobra.Command {
	var name, ca, token string
	c := s.verb(verb{
		use: "login ADDRESS", short: "Remember a rack and the token for it",
		long: "Try a token on the rack at host:port, and remember both. The token is read from standard input, so that\n" +
			"it stays out of the shell's history; on a terminal it is asked for.",
		example: "  slipway login rack.example.com:7070 --ca ca.crt < token", args: between(1, 1),
		run: func(ctx context.Context, args []string) error {
			target := client.Context{Addr: args[0], Token: token}
			if ca != "" {
				pem, err := os.ReadFile(ca)
				if err != nil {
					return usage("read the CA: %w", err)
				}
				target.CA = string(pem)
			}
			return s.login(ctx, name, target)
		},
	})
	c.Flags().StringVar(&name, "name", "", "how to call the rack (default: its own name)")
	c.Flags().StringVar(&ca, "ca", "", "file with the certificate of the rack's authority")
	c.Flags().StringVar(&token, "token", "", "the token, instead of standard input")
	return c
}

func (s *shell) login(ctx context.Context, name string, target client.Context) error {
	conf, err := s.loadConfig()
	if err != nil {
		return err
	}
	if target.Token == "" {
		if target.Token, err = s.readSecret(ctx, "Token: "); err != nil {
			return err
		}
	}
	var info api.RackInfo
	err = s.step("Trying "+target.Addr, func() (string, error) {
		if s.rack, err = client.Dial(ctx, target); err != nil {
			return "", err
		}
		if info, err = s.rack.Rack(ctx); err == nil {
			target.Others, err = otherServers(ctx, s.rack, target.Addr)
		}
		return info.Name, err
	})
	if err != nil {
		return err
	}
	if name == "" {
		name = info.Name
	}
	if ca := s.rack.CA(); ca != "" {
		target.CA = ca
	}
	conf.Racks[name], conf.Current = target, name
	if err := s.saveConfig(conf); err != nil {
		return err
	}
	return s.print(map[string]string{"rack": name, "addr": target.Addr}, func() error {
		return s.answer(fmt.Sprintf("Rack %s is the current one.", name))
	})
}

// otherServers lists where the rack answers when the server at addr does not.
func otherServers(ctx context.Context, rack *client.Client, addr string) (others []string, err error) {
	servers, err := rack.Servers(ctx)
	for _, one := range servers {
		if one.Addr != addr {
			others = append(others, one.Addr)
		}
	}
	if len(servers) < 2 { // it may be known here by another name
		others = nil
	}
	return others, err
}

// secretMax bounds a token or a password, in bytes.
const secretMax = 16 << 10

// readSecret reads a token or a password; from a terminal, one line without showing it.
func (s *shell) readSecret(ctx context.Context, prompt string) (string, error) {
	f := terminal(s.in)
	if f == nil {
		secret, err := s.readInput(ctx, secretMax)
		if secret = strings.TrimSpace(secret); err == nil && secret == "" {
			return "", usage("nothing is given on standard input, where the %s is read", strings.ToLower(strings.TrimSuffix(prompt, ": ")))
		}
		return secret, err
	}
	fmt.Fprint(s.err, prompt)
	fd := int(f.Fd())
	old, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("prepare the terminal: %w", err)
	}
	var secret []byte
	ended := make(chan error, 1)
	go func() { // left behind by an interrupt
		var err error
		secret, err = term.ReadPassword(fd)
		ended <- err
	}()
	select {
	case <-ctx.Done():
		_ = term.Restore(fd, old) // nothing else can be done about it
		fmt.Fprintln(s.err)
		return "", ctx.Err()
	case err := <-ended:
		fmt.Fprintln(s.err)
		return strings.TrimSpace(string(secret)), err
	}
}
