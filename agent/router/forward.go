package router

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"
)

// flight is one request on its way to a target. It lives as long as the request and belongs to
// its goroutine.
type flight struct {
	router *Router
	route  *route
	origin origin
	w      http.ResponseWriter
	r      *http.Request
	// target is acquired; tried are those that failed before it.
	target *target
	tried  []*target
	// cookie is the session cookie to set; empty sets none.
	cookie string
	// status is what the client was answered, 0 while it was not.
	status int
	// begun: the client has seen bytes of the process's response, so nothing else can be said.
	begun bool
	// gone: the client had left when the last try failed.
	gone bool
}

// board acquires a target: the session's if there is one, else the least busy. It looks at the
// newest table, and again whenever the table changed under it.
func (f *flight) board(host string) bool {
	f.cookie = ""
	for {
		if tg := f.choose(); tg == nil {
			return false
		} else if tg.acquire() {
			f.target = tg
			return true
		}
		if !f.reroute(host) {
			return false
		}
	}
}

// reroute moves the request to the newest table. It reports false if that has no route for it.
func (f *flight) reroute(host string) bool {
	rt := f.router.table.Load().find(host)
	if rt == nil || rt.scheme != f.route.scheme || !rt.admitsRemote(f.r.RemoteAddr) {
		return false
	}
	f.route = rt
	return true
}

// another exchanges a target that refused a connection for one that was not tried, of the
// newest table. It reports false, with no target acquired, if there is none.
func (f *flight) another(host string) bool {
	f.target.setSuspect()
	f.tried = append(f.tried, f.target)
	f.leave()
	return f.reroute(host) && f.board(host)
}

// countRetry counts a second try.
func (f *flight) countRetry() {
	f.router.counters.retries.Add(1)
	f.route.metrics.retries.Inc()
}

func (f *flight) choose() *target {
	if f.route.sessions == nil {
		return f.route.pick(f.tried)
	}
	tg := f.route.session(f.r)
	if tg != nil && !contains(f.tried, tg) {
		return tg
	}
	if tg = f.route.pick(f.tried); tg != nil {
		f.cookie = f.route.sessionCookie(tg, f.r.TLS != nil)
	}
	return tg
}

// leave releases the target.
func (f *flight) leave() {
	if f.target != nil {
		f.target.release()
		f.target = nil
	}
}

// failure is why a try did not bring a response.
type failure struct {
	err error
	// dial: no connection could be made, so another target may do better.
	dial bool
	// again: the request may be sent once more.
	again bool
	// client: the client is to blame, or has gone; nobody else needs to know.
	client bool
}

// send carries the request to targets until one answers or nothing can be done. Targets that
// refuse a connection are each tried once, within the route's timeout.
func (f *flight) send(host string, try func(fresh bool) *failure) {
	begun, fresh, sends := time.Now(), false, 0
	for {
		fail := try(fresh)
		if fail != nil && !fail.dial {
			sends++
		}
		if fail != nil && !fail.client && !f.gone {
			f.route.metrics.failed(fail)
		}
		switch {
		case fail == nil:
			return
		case f.begun:
			f.abort(fail)
		case fail.client || f.gone:
			f.status = statusClientGone
			if !fail.client {
				panic(http.ErrAbortHandler) // to return would be to say 200
			}
			if isTimeout(fail.err) {
				f.refuse(http.StatusRequestTimeout, "the request body did not arrive")
				return
			}
			f.refuse(http.StatusBadRequest, "the request body could not be read")
			return
		case !fail.again || sends == sendsMax || time.Since(begun) >= f.route.timeout:
			f.fail(fail)
			return
		}
		fresh = true // an idle connection that died has siblings that did
		if fail.dial && !f.another(host) {
			f.fail(fail)
			return
		}
		f.countRetry()
	}
}

// statusClientGone is recorded, never sent, for a client that left before its response.
const statusClientGone = 499

// abort ends a response that cannot be completed, so that the client sees it is cut.
func (f *flight) abort(fail *failure) {
	if !fail.client && !f.gone {
		f.route.metrics.cut.Inc()
		f.router.troubles.note(f.route.key, f.status, fail.err)
	}
	panic(http.ErrAbortHandler)
}

// fail answers for a process that did not.
func (f *flight) fail(fail *failure) {
	status, text := http.StatusBadGateway, "the app did not answer"
	if isTimeout(fail.err) && !fail.dial {
		status, text = http.StatusGatewayTimeout, "the app did not answer in time"
	}
	f.router.troubles.note(f.route.key, status, fail.err)
	f.refuse(status, text)
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// refuse answers with a status of the router's own and one line of text.
func (f *flight) refuse(status int, text string) {
	f.status = status
	if status >= http.StatusBadGateway {
		f.router.counters.errors.Add(1)
		f.route.metrics.errors.Inc()
	}
	refuse(f.w, status, text)
}

func refuse(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	connection := h["Connection"]
	clear(h)
	if connection != nil {
		h["Connection"] = connection
	}
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	if status == http.StatusBadRequest || status == http.StatusRequestTimeout {
		h["Connection"] = []string{"close"} // what follows is malformed too, or the missing body
	}
	if status == http.StatusServiceUnavailable {
		h["Retry-After"] = []string{"1"}
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(http.StatusText(status) + ": " + text + "\n"))
}

// idempotent reports whether carrying the request out twice is as good as once (RFC 9110
// §9.2.2), by its method or by the client's word.
func idempotent(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.Header["Idempotency-Key"] != nil
}

// deadline is now plus the route's timeout.
func (f *flight) deadline() time.Time { return time.Now().Add(f.route.timeout) }
