package state

import (
	"slices"
	"strings"
	"time"

	"slipway/api"
)

// putTokenCommand stores a token. The names of users are unique: they are what the record of
// changes calls them.
func (c *change) putTokenCommand(cmd PutToken) *api.Error {
	t := cmd.Token
	if t.ID == "" || t.Name == "" || len(t.Hash) == 0 {
		return api.Errorf(api.CodeInvalid, "a token needs an ID, a name and a secret")
	}
	old, known := c.Token(t.ID)
	for other := range c.Tokens() {
		if other.Name == t.Name && other.ID != t.ID && api.UserRole(t.Role) {
			return api.Errorf(api.CodeConflict, "token %q exists already; choose another name, or delete it first: slipway tokens delete %s", t.Name, t.Name)
		}
	}
	if known && old.governs() && !t.governs() && c.lastGoverning(old) {
		return lastAdmin(old)
	}
	what := "token.created"
	if known {
		what = "token.changed"
	}
	c.putToken(t)
	c.event(what, "", t.Name, t.summary())
	return nil
}

// deleteToken revokes a token.
func (c *change) deleteToken(cmd DeleteToken) *api.Error {
	t, ok := c.Token(cmd.ID)
	if !ok {
		return api.NotFound("token", cmd.ID, nil)
	}
	if t.Role == api.RoleAdmin && c.lastGoverning(t) {
		return lastAdmin(t)
	}
	drop(c, &c.tokens, t.ID)
	drop(c, &c.tokenByHash, string(t.Hash))
	c.event("token.deleted", "", t.Name, t.summary())
	return nil
}

// governs reports whether the holder of a token can always mend the rack.
func (t *Token) governs() bool {
	return t.Role == api.RoleAdmin && t.Expires.IsZero() && len(t.Apps) == 0
}

// lastGoverning reports whether no token but t governs.
func (c *change) lastGoverning(t *Token) bool {
	for other := range c.Tokens() {
		if other.ID != t.ID && other.governs() {
			return false
		}
	}
	return true
}

func lastAdmin(t *Token) *api.Error {
	return api.Errorf(api.CodeConflict, "token %q is the last one of role admin that does not expire, nobody could administer the rack without it; "+
		"make another first: slipway tokens create NAME --role admin", t.Name)
}

// summary says what a token is good for.
func (t *Token) summary() string {
	text := "role " + t.Role
	if len(t.Apps) > 0 {
		var apps []string
		for _, a := range t.Apps {
			apps = append(apps, string(a))
		}
		slices.Sort(apps)
		text += ", apps " + strings.Join(apps, ", ")
	}
	if !t.Expires.IsZero() {
		text += ", expires " + t.Expires.UTC().Format(time.RFC3339)
	}
	return text
}
