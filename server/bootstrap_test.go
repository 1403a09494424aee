package server

import (
	"testing"

	"slipway/api"
	"slipway/server/auth"
	"slipway/server/registry"
)

func TestImageRights(t *testing.T) {
	actions := []string{registry.ActionLogin, registry.ActionPull, registry.ActionPush, registry.ActionDelete, registry.ActionCatalog, "anything"}
	scoped := []api.AppName{"shop"}
	for _, c := range []struct {
		who  auth.Identity
		repo string
		want string // one letter per action
	}{
		{auth.Identity{Role: auth.RoleAdmin}, "shop", "yyyyyy"},
		{auth.Identity{Role: auth.RoleNode}, "shop", "yyynnn"},
		{auth.Identity{Role: auth.RoleNode}, "library/busybox", "yynnnn"},
		{auth.Identity{Role: auth.RoleNode}, "shop/x", "yynnnn"},
		{auth.Identity{Role: auth.RoleServer}, "shop", "nnnnnn"},
		{auth.Identity{Role: auth.RoleDeployer}, "shop", "yynnnn"},
		{auth.Identity{Role: auth.RoleDeployer, Apps: scoped}, "shop", "yynnnn"},
		{auth.Identity{Role: auth.RoleDeployer, Apps: scoped}, "shop2", "ynnnnn"},
		{auth.Identity{Role: auth.RoleViewer, Apps: scoped}, "sho", "ynnnnn"},
		{auth.Identity{Role: auth.RoleViewer, Apps: scoped}, "library/busybox", "yynnnn"},
		{auth.Identity{Role: "another"}, "shop", "nnnnnn"},
		{auth.Identity{}, "", "nnnnnn"},
	} {
		got := ""
		for _, action := range actions {
			if imageRight(c.who, c.repo, action) {
				got += "y"
			} else {
				got += "n"
			}
		}
		if got != c.want {
			t.Errorf("%s of %q in %q: %s, want %s for %q", c.who.Role, c.who.Apps, c.repo, got, c.want, actions)
		}
	}
}
