package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
		if target.Token, err = s.readSecret("Token: "); err != nil {
			return err
		}
	}
	var info api.RackInfo
	err = s.step("Trying "+target.Addr, func() (string, error) {
		if s.rack, err = client.Dial(ctx, target); err != nil {
			return "", err
		}
		info, err = s.rack.Rack(ctx)
		return info.Name, err
	})
	if err != nil {
		return err
	}
	if name == "" {
		name = info.Name
	}
	conf.Racks[name], conf.Current = target, name
	if err := s.saveConfig(conf); err != nil {
		return err
	}
	return s.print(map[string]string{"rack": name, "addr": target.Addr}, func() error {
		return s.answer(fmt.Sprintf("Rack %s is the current one.", name))
	})
}

// readSecret reads one line; from a terminal, without showing it.
func (s *shell) readSecret(prompt string) (string, error) {
	if f := terminal(s.in); f != nil {
		fmt.Fprint(s.err, prompt)
		secret, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(s.err)
		return strings.TrimSpace(string(secret)), err
	}
	line, err := bufio.NewReader(s.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", usage("no token is given; write it to standard input, or use --token")
	}
	return line, nil
}
