package api

import (
	"regexp"
	"strings"
	"time"
)

// Registry is an image registry outside the rack that builds pull from with a login. Its password
// is shown to nobody.
type Registry struct {
	Server   string    `json:"server"` // as names of images have it: a host, with a port if there is one
	Username string    `json:"username"`
	Changed  time.Time `json:"changed"`
}

// RegistryLogin is what opens a registry. Secret.
type RegistryLogin struct {
	Server   string `json:"server"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// dockerHub is what names of images without a host are looked for in. It goes by many names.
const dockerHub = "docker.io"

var (
	registryRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[1-9][0-9]{0,4})?$`)
	hubRule      = regexp.MustCompile(`^(index\.|registry-1\.|registry\.|hub\.|www\.)?docker\.io(:443)?$`)
	versionPath  = regexp.MustCompile(`/v[12]$`)
)

// RegistryServer returns what names of images call a registry, which users may give as a URL.
func RegistryServer(text string) (string, error) {
	if strings.HasPrefix(text, "http://") {
		return "", Errorf(CodeInvalid, "registry %.200q: images are pulled by https only; leave http:// away", text)
	}
	server := strings.ToLower(strings.TrimPrefix(text, "https://"))
	server = versionPath.ReplaceAllString(strings.TrimRight(server, "/"), "")
	switch {
	case hubRule.MatchString(server):
		return dockerHub, nil
	case server == RackHost:
		return "", Errorf(CodeInvalid, "registry %s is the rack's own, which needs no login", server)
	case !registryRule.MatchString(server) || !strings.ContainsAny(server, ".:") && server != "localhost":
		return "", Errorf(CodeInvalid, "registry %.200q is not a host with an optional port, as in the name of an image: registry.example.com:5000", text)
	}
	return server, nil
}

// LoginFor finds the login of the registry that a host belongs to.
func LoginFor(logins []RegistryLogin, host string) (RegistryLogin, bool) {
	server, err := RegistryServer(host)
	for _, l := range logins {
		if err == nil && l.Server == server {
			return l, true
		}
	}
	return RegistryLogin{}, false
}
