package router

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"slipway/api"
)

// SessionCookie is the cookie that keeps a client of a sticky route with one process.
const SessionCookie = "SLIPWAYSESSION"

// sessionToken names a process without telling its ID. It follows from the key alone, so that
// every router of a rack, and the next one after a restart, knows it.
func sessionToken(key []byte, service api.ServiceKey, process api.ProcessID) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(service.String() + "/" + string(process)))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// session returns the target that the request's cookie names, or nil where it names none that
// is still in the table.
func (rt *route) session(r *http.Request) *target {
	for _, line := range r.Header["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if name != SessionCookie {
				continue
			}
			if tg := rt.sessions[value]; tg != nil {
				return tg
			}
		}
	}
	return nil
}

// sessionCookie returns the Set-Cookie value that binds a client to a target.
func (rt *route) sessionCookie(tg *target, secure bool) string {
	c := SessionCookie + "=" + rt.tokens[tg] + "; Path=/; HttpOnly; SameSite=Lax"
	if secure {
		c += "; Secure"
	}
	return c
}
