package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) tokensCommand() *cobra.Command {
	all := false
	list := func(ctx context.Context, _ []string) error { return s.listTokens(ctx, all) }
	c := s.verb(verb{
		use: "tokens", short: "List, make and delete access tokens", run: list,
		long: "List the access tokens of the rack. Their secrets are not known to anybody but their holders. An admin may\n" +
			"do everything, a deployer everything inside apps, a viewer may look.",
		example: "  slipway tokens\n  slipway tokens create ci --role deployer --app hello --expires 90d\n  slipway tokens delete ci",
	})
	lister := s.verb(verb{use: "list", short: "List tokens", long: "List the access tokens of the rack.", example: "  slipway tokens list --all", run: list})
	for _, one := range []*cobra.Command{c, lister} {
		one.Flags().BoolVar(&all, "all", false, "also those of machines")
	}
	c.AddCommand(lister, s.createTokenCommand(), s.verb(verb{
		use: "delete TOKEN", names: tokenNames, short: "Delete a token", args: between(1, 1), example: "  slipway tokens delete ci",
		long: "Delete a token, named by its name or its ID: whoever holds it is locked out at once, and what they follow\n" +
			"ends within seconds. The last admin token that does not expire stays.",
		run: func(ctx context.Context, args []string) error { return s.deleteToken(ctx, args[0]) },
	}))
	return c
}

func (s *shell) createTokenCommand() *cobra.Command {
	t, expires := client.NewToken{}, ""
	var apps []string
	c := s.verb(verb{
		use: "create NAME", short: "Make a token", args: between(1, 1),
		long: "Make a token and print its secret, this once. Its name is what the record of changes calls its holder.",
		example: "  slipway tokens create ann --role admin\n  slipway tokens create ci --role deployer --app hello --app shop --expires 90d\n" +
			"  slipway tokens create wall --role viewer --json",
		run: func(ctx context.Context, args []string) error {
			t.Name = args[0]
			for _, app := range apps {
				t.Apps = append(t.Apps, api.AppName(app))
			}
			var err error
			if t.Life, err = parseLife(expires); err != nil {
				return err
			}
			if t.Role == "" {
				return usage("--role is missing: admin, deployer or viewer")
			}
			return s.createToken(ctx, t)
		},
	})
	c.Flags().StringVar(&t.Role, "role", "", "admin, deployer or viewer")
	c.Flags().StringArrayVarP(&apps, "app", "a", nil, "narrow it to this app; may be repeated (default: all apps)")
	c.Flags().StringVar(&expires, "expires", "", "when it ends: 90d, 12h (default: never)")
	return c
}

var lifeRule = regexp.MustCompile(`^([0-9]{1,5})([mhdw])$`)

// parseLife reads how long something lasts: minutes, hours, days or weeks; "" is for ever.
func parseLife(text string) (time.Duration, error) {
	m := lifeRule.FindStringSubmatch(text)
	if text == "" || text == "never" {
		return 0, nil
	}
	if m == nil {
		return 0, usage("%q is not a length of time; write 30m, 12h, 90d or 4w", text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n == 0 {
		return 0, usage("%q is not a length of time; write 30m, 12h, 90d or 4w", text)
	}
	return time.Duration(n) * map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[m[2]], nil
}

func (s *shell) listTokens(ctx context.Context, all bool) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	tokens, err := rack.Tokens(ctx)
	if err != nil {
		return err
	}
	shown, rows := []api.Token{}, [][]string{}
	for _, t := range tokens {
		if all || api.UserRole(t.Role) {
			shown = append(shown, t)
			rows = append(rows, []string{t.Name, t.Role, tokenApps(t), orElse(s.ago(t.Created), "-"), s.expiry(t), t.ID})
		}
	}
	return s.print(shown, func() error {
		return s.table([]string{"NAME", "ROLE", "APPS", "CREATED", "EXPIRES", "ID"}, rows)
	})
}

func tokenApps(t api.Token) string {
	if len(t.Apps) == 0 {
		return "all apps"
	}
	names := make([]string, len(t.Apps))
	for i, a := range t.Apps {
		names[i] = string(a)
	}
	return strings.Join(names, ",")
}

func (s *shell) expiry(t api.Token) string {
	switch {
	case t.Expires.IsZero():
		return "never"
	case !s.now().Before(t.Expires):
		return "expired"
	}
	return t.Expires.UTC().Format(stampLayout)
}

func (s *shell) createToken(ctx context.Context, t client.NewToken) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	var doc struct {
		Token  api.Token `json:"token"`
		Secret string    `json:"secret"`
	}
	err = s.step("Creating token "+oneLine(t.Name), func() (string, error) {
		doc.Token, doc.Secret, err = rack.CreateToken(ctx, t)
		return fmt.Sprintf("%s of %s, expires %s", doc.Token.Role, tokenApps(doc.Token), s.expiry(doc.Token)), err
	})
	if err != nil {
		return err
	}
	return s.print(doc, func() error {
		if err := s.answer(doc.Secret); err != nil {
			return err
		}
		return s.answer("The secret is shown this once. Log in with it: slipway login ADDRESS --ca FILE")
	})
}

func (s *shell) deleteToken(ctx context.Context, token string) error {
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	err = s.step("Deleting token "+oneLine(token), func() (string, error) { return "", rack.DeleteToken(ctx, token) })
	if err != nil {
		return err
	}
	return s.print(map[string]any{"token": token, "deleted": true}, nothing)
}
