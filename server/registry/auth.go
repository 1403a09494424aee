package registry

import (
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/distribution/distribution/v3/registry/auth"
	"github.com/sirupsen/logrus"
)

const (
	authName   = "slipway"
	authOption = "authorize"
)

// registerAuth puts our access controller into distribution's table, which is one per process.
// The entry itself holds no state: each registry hands its own Authorize over as an option.
var registerAuth = sync.OnceValue(func() error {
	logrus.SetLevel(logrus.FatalLevel) // below, every 404 is an error to distribution
	return auth.Register(authName, func(options map[string]any) (auth.AccessController, error) {
		authorize, ok := options[authOption].(func(user, password, repo, action string) error)
		if !ok {
			return nil, errors.New("access controller has no authorize function")
		}
		return accessController(authorize), nil
	})
})

// accessController asks one function about each access that a request needs.
type accessController func(user, password, repo, action string) error

// Authorized implements auth.AccessController.
func (c accessController) Authorized(r *http.Request, accesses ...auth.Access) (*auth.Grant, error) {
	user, password, _ := r.BasicAuth()
	if len(accesses) == 0 {
		if err := c(user, password, "", ActionLogin); err != nil {
			return nil, challenge{err}
		}
	}
	grant := &auth.Grant{User: auth.UserInfo{Name: user}}
	for _, a := range accesses {
		repo, action := a.Name, a.Action
		switch {
		case a.Type == "registry":
			repo, action = "", ActionCatalog
		case a.Type != "repository":
			return nil, challenge{fmt.Errorf("access to a %q is not known", a.Type)}
		}
		if err := c(user, password, repo, action); err != nil {
			return nil, challenge{err}
		}
		grant.Resources = append(grant.Resources, a.Resource)
	}
	return grant, nil
}

// challenge makes distribution answer 401 and ask for a name and a password.
type challenge struct{ error }

// SetHeaders implements auth.Challenge.
func (challenge) SetHeaders(_ *http.Request, w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="slipway"`)
}
