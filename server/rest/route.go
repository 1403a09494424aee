package rest

import (
	"strings"
	"time"
)

// socket is the method of routes that are websockets: a GET with an upgrade.
const socketMethod = "SOCKET"

// The rights that a token needs, from the control API: the roles viewer, deployer and admin have
// them.
const (
	rightRead   = "read"
	rightDeploy = "deploy"
	rightAdmin  = "administer"
)

// route is one row of the table.
type route struct {
	method  string // of HTTP, or socketMethod
	path    string // with {names}; {key...} takes the rest
	summary string
	right   string // what the calls together ask for
	calls   []string
	params  []param
	// body names what the raw body is: "" for none, or for a form.
	body string
	// answer is a value of the type that is answered; nil for "ok", or for bytes.
	answer any
	serve  func(c *call) error
	// missing says why the rack does not have this yet: the route answers 501.
	missing string
}

// place is where a parameter stands.
type place string

const (
	inPath   place = "path"
	inQuery  place = "query"
	inForm   place = "form"
	inHeader place = "header"
)

// kind is the type of a parameter.
type kind string

const (
	kindText     kind = "string"
	kindNumber   kind = "integer"
	kindBool     kind = "boolean"
	kindDuration kind = "duration" // "2m0s"
	kindPairs    kind = "pairs"    // A=1&B=2, escaped as in a URL
)

// param is one parameter of a route.
type param struct {
	name string
	in   place
	kind kind // "" is kindText
	// required parameters must be given and not be empty.
	required bool
	// most bounds a text, in bytes, and a number; 0 is textMax for texts and numberMax for numbers.
	// least bounds numbers from below.
	least, most int
	doc         string
	// missing parameters are known to Convox and not to this rack: to give one is answered with 501.
	missing bool
}

const (
	textMax   = 4 << 10
	nameMax   = 255
	numberMax = 1 << 30
)

// names returns the parameters that stand in the path of a route.
func (r *route) names() (out []param) {
	for segment := range strings.SplitSeq(r.path, "/") {
		start, end := strings.IndexByte(segment, '{'), strings.IndexByte(segment, '}')
		if start < 0 || end < start {
			continue
		}
		name := strings.TrimSuffix(segment[start+1:end], "...")
		p := param{name: name, in: inPath, required: true, most: nameMax, doc: pathDocs[name]}
		if name == "port" {
			p.kind, p.least, p.most = kindNumber, 1, 65_535
		}
		out = append(out, p)
	}
	return out
}

// pathDocs tells what the names in paths stand for.
var pathDocs = map[string]string{
	"app": "name of the app", "id": "ID", "pid": "ID of the process", "service": "name of the service", "key": "key of the object",
	"name": "name", "host": "host", "port": "port", "server": "host of the registry",
}

// all returns every parameter of a route.
func (r *route) all() []param { return append(r.names(), r.params...) }

// pattern is the route in the words of http.ServeMux, which takes whole segments only.
func (r *route) pattern() string {
	method := r.method
	if method == socketMethod {
		method = "GET"
	}
	return method + " " + strings.Replace(r.path, "{id}.tgz", "{id}", 1)
}

// archive reports whether the last segment is an ID with .tgz at its end.
func (r *route) archive() bool { return strings.HasSuffix(r.path, "{id}.tgz") }

// arg returns an argument that was given and checked.
func arg[T any](c *call, name string) (T, bool) {
	v, ok := c.args[name].(T)
	return v, ok
}

func (c *call) text(name string) string {
	v, _ := arg[string](c, name)
	return v
}

func (c *call) number(name string, otherwise int) int {
	if v, ok := arg[int](c, name); ok {
		return v
	}
	return otherwise
}

func (c *call) flag(name string, otherwise bool) bool {
	if v, ok := arg[bool](c, name); ok {
		return v
	}
	return otherwise
}

func (c *call) duration(name string, otherwise time.Duration) time.Duration {
	if v, ok := arg[time.Duration](c, name); ok {
		return v
	}
	return otherwise
}

// Row tells of one route: what documentation and tests look at.
type Row struct {
	Method  string // of HTTP, or SOCKET for a websocket
	Path    string
	Summary string
	Right   string // what a token needs: read, deploy or administer
	Missing string // why the route answers 501; "" for those that work
}

// Table lists every route.
func Table() (out []Row) {
	for _, rt := range routes() {
		out = append(out, Row{rt.method, rt.path, rt.summary, rt.right, rt.missing})
	}
	return out
}
