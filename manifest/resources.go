package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"slipway/api"
)

// Resource is a backing service of the app.
type Resource struct {
	Name    api.ResourceName  `json:"name"`
	Type    string            `json:"type"`
	Image   string            `json:"image,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	// Given tells that the environment holds the URL of the resource, so that the rack
	// starts none.
	Given bool `json:"given,omitempty"`

	node *node
}

// Link is a resource that a service uses.
type Link struct {
	Resource api.ResourceName `json:"resource"`
	// Env names the variables that the resource fills: NAME_URL, _USER, _PASS, _HOST, _PORT
	// and _NAME, or the one that the manifest asks for.
	Env []string `json:"env"`
}

// managedMax is the longest name of a resource at AWS.
const managedMax = 20

// resourceTypes are those of both dialects.
var resourceTypes = []string{
	"elasticache-memcached", "elasticache-redis", "efs", "mariadb", "memcached", "mysql", "postgis", "postgres",
	"rds-mariadb", "rds-mysql", "rds-postgres", "redis", "s3", "sns", "sqs", "syslog", "valkey", "webhook",
}

// linkParts are the parts of a resource's address that a service is told.
var linkParts = []string{"URL", "USER", "PASS", "HOST", "PORT", "NAME"}

// resource reads a backing service. It acts only where the environment gives its URL.
func (l *loader) resource(f field) Resource {
	n := f.value
	r := Resource{
		Name:    api.ResourceName(f.name),
		Type:    n.get("type").string(""),
		Image:   n.get("image").string(""),
		Options: n.get("options").texts(),
		Tags:    n.get("tags").texts(),
		Given:   l.env[envPrefix(f.name)+"_URL"] != "",
		node:    n,
	}
	switch {
	case nameRule.MatchString(strings.ReplaceAll(f.name, "_", "-")) && strings.Contains(f.name, "_") && (l.rules == V2 || len(l.evidence.V3) == 0):
		l.warn(n, "resource name %s: Convox v3 refuses the underscore", f.name)
	default:
		l.checkName("resource", f)
	}
	managed := strings.HasPrefix(r.Type, "rds-") || strings.HasPrefix(r.Type, "elasticache-")
	if managed && len(f.name) > managedMax {
		l.problem(n, "resource name %s is longer than %d letters, the limit for the type %s", short(f.name), managedMax, quote(source(n.get("type")))).
			hint("choose a shorter name")
	}
	switch {
	case strings.TrimSpace(r.Type) == "":
		l.blankType(n, f.name)
	case !r.Given && !slices.Contains(resourceTypes, r.Type):
		at := n.get("type")
		meant := "known are " + strings.Join(resourceTypes, ", ")
		if found := api.Nearest(r.Type, resourceTypes); found != "" && !at.vars && len(r.Type) <= api.NameMax {
			meant = fmt.Sprintf("did you mean %q?", found)
		}
		l.warn(at, "resource %s has the unknown type %s; %s", short(f.name), quote(source(at)), meant)
	}
	if !r.Given {
		l.notActing(n.path)
	}
	return r
}

// blankType speaks as the dialect does.
func (l *loader) blankType(n *node, name string) {
	if l.rules == V2 {
		l.problem(n, "resource type can not be blank").hint("give " + quote(name) + " a type such as postgres or redis")
		return
	}
	l.problem(n, "resource %s has blank type", quote(name)).hint("give it a type such as postgres or redis")
}

// links reads `db` and `db:CUSTOM`, and fills the variables of resources whose URL is given.
func (l *loader) links(s *Service, n *node) {
	for _, item := range n.get("resources").strings() {
		name, custom, _ := strings.Cut(item, ":")
		link := Link{Resource: api.ResourceName(name)}
		if custom != "" {
			link.Env = []string{custom}
		} else {
			for _, part := range linkParts {
				link.Env = append(link.Env, envPrefix(name)+"_"+part)
			}
		}
		s.Links = append(s.Links, link)
		if given := l.env[envPrefix(name)+"_URL"]; given != "" {
			fillLink(s.Env, link, given)
		}
	}
}

// fillLink sets the variables of a link from the URL of the resource. What a service declares
// itself stays.
func fillLink(env map[string]string, link Link, given string) {
	parts := map[string]string{"URL": given}
	if u, err := url.Parse(given); err == nil {
		pass, _ := u.User.Password()
		parts["USER"], parts["PASS"] = u.User.Username(), pass
		parts["HOST"], parts["PORT"] = u.Hostname(), u.Port()
		parts["NAME"] = strings.TrimPrefix(u.Path, "/")
	}
	for _, name := range link.Env {
		if _, declared := env[name]; declared {
			continue
		}
		part := name[strings.LastIndex(name, "_")+1:]
		if !slices.Contains(linkParts, part) {
			part = "URL"
		}
		env[name] = parts[part]
	}
}

// envPrefix makes a part of a variable's name of a resource's: "my-db" is "MY_DB".
func envPrefix(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}
