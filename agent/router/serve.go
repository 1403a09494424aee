package router

import (
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"slipway/api"
)

// ServeHTTP answers one request.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.counters.requests.Add(1)
	// HTTP/1.0 knows no transfer coding: whoever was before the router may have seen another end
	// of a request that names one (RFC 9112 §6.1).
	if r.leaving.Load() || !req.ProtoAtLeast(1, 1) {
		w.Header()["Connection"] = []string{"close"}
	}
	host, ok := normalHost(req.Host)
	if !ok || !wellFormed(req) {
		refuse(w, http.StatusBadRequest, "malformed request")
		return
	}
	t := r.table.Load()
	rt := t.find(host)
	if rt == nil {
		r.unrouted(w, t, host)
		return
	}
	if req.TLS != nil && !r.sameRoute(t, req.TLS.ServerName, host, rt) {
		refuse(w, http.StatusMisdirectedRequest, "the connection was made for another host")
		return
	}
	f := &flight{router: r, route: rt, w: w, r: req, origin: originOf(req)}
	start, load := time.Now(), rt.metrics.inFlight
	load.Inc()
	defer func() {
		f.leave()
		load.Dec()
		r.record(f, start)
	}()
	f.serve(host)
}

func (f *flight) serve(host string) {
	switch {
	case f.route.redirect && f.r.TLS == nil && f.router.httpsPort != 0:
		f.redirect(host)
		return
	case !f.route.admitsRemote(f.r.RemoteAddr):
		f.refuse(http.StatusForbidden, "your address is not allowed here")
		return
	}
	if !f.board(host) {
		f.refuse(http.StatusServiceUnavailable, "no process of "+f.route.key.String()+" is ready")
		f.router.troubles.note(f.route.key, f.status, errNoTarget)
		return
	}
	if f.route.scheme == api.SchemeGRPC {
		f.serveGRPC(host)
		return
	}
	f.exchange(host)
}

// errNoTarget is why a request was refused while no process of its service was ready.
var errNoTarget = api.Errorf(api.CodeUnavailable, "the route has no targets")

// redirect sends the client to the same place over HTTPS, with its method and body (308).
func (f *flight) redirect(host string) {
	if f.router.httpsPort != 443 {
		host += ":" + strconv.Itoa(f.router.httpsPort)
	}
	f.w.Header()["Location"] = []string{"https://" + host + f.r.URL.RequestURI()}
	f.w.Header()["Content-Length"] = []string{"0"}
	f.status = http.StatusPermanentRedirect
	f.w.WriteHeader(f.status)
}

// unrouted answers for a host that no route names. A router that was never given a table does
// not know whether it exists.
func (r *Router) unrouted(w http.ResponseWriter, t *table, host string) {
	if t.spec.Version == 0 {
		r.counters.errors.Add(1)
		refuse(w, http.StatusServiceUnavailable, "the router has no routes yet")
		return
	}
	refuse(w, http.StatusNotFound, "no app at "+host)
}

// sameRoute reports whether a connection made for the TLS name may ask for host: the name has
// the same route, or the client named none; an address in its place says nothing (RFC 6066 §3).
// Anything else is for another connection (421), lest one that was admitted for one app reaches
// the next.
func (r *Router) sameRoute(t *table, name, host string, rt *route) bool {
	if name == "" || name == host {
		return true
	}
	name, ok := normalHost(name)
	if !ok || name == host || t.find(name) == rt {
		return ok
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// wellFormed reports whether method and target of a request can be written on a request line.
// net/http has checked those of HTTP/1.1; over HTTP/2 they may hold a space.
func wellFormed(req *http.Request) bool {
	if req.Method == http.MethodConnect || !isToken(req.Method) {
		return false
	}
	for i := 0; i < len(req.RequestURI); i++ {
		if b := req.RequestURI[i]; b <= ' ' || b == 0x7f {
			return false
		}
	}
	return req.RequestURI != ""
}

// requestTarget is the origin form of what was asked for (RFC 9112 §3.2.1).
func requestTarget(req *http.Request) string {
	if req.RequestURI[0] == '/' || req.RequestURI == "*" {
		return req.RequestURI
	}
	return req.URL.RequestURI()
}
