package router

import (
	"net"
	"net/http"
	"strings"
)

// reserved reports whether a header of a request never comes from outside: hop-by-hop ones (RFC
// 9110 §7.6.1) end here, framing is the router's own, and the rest tell who the client is.
func reserved(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Expect", "Forwarded", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate",
		"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Real-Ip":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-")
}

// forwards reports whether a request header is passed on to the process. Many frameworks turn
// dashes into underscores, so a reserved name spelled with underscores is reserved as well.
func forwards(name string) bool {
	if reserved(name) {
		return false
	}
	return strings.IndexByte(name, '_') < 0 || !reserved(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")))
}

// dropListed removes the headers that the client named in Connection.
func dropListed(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				if key := http.CanonicalHeaderKey(name); key != "Connection" && key != "Upgrade" {
					delete(h, key)
				}
			}
		}
	}
}

// origin is what the router itself knows about where a request comes from.
type origin struct{ addr, proto, host, port string }

func originOf(r *http.Request) origin {
	o := origin{addr: r.RemoteAddr, proto: "http", host: r.Host, port: "80"}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		o.addr = host
	}
	if r.TLS != nil {
		o.proto, o.port = "https", "443"
	}
	if i := strings.LastIndexByte(r.Host, ':'); i >= 0 && i+1 < len(r.Host) && !strings.HasSuffix(r.Host, "]") {
		o.port = r.Host[i+1:]
	}
	return o
}

// appendOrigin appends the lines that tell a process about the client.
func appendOrigin(b []byte, o origin) []byte {
	b = append(b, "X-Forwarded-For: "...)
	b = append(b, o.addr...)
	b = append(b, "\r\nX-Forwarded-Proto: "...)
	b = append(b, o.proto...)
	b = append(b, "\r\nX-Forwarded-Host: "...)
	b = append(b, o.host...)
	b = append(b, "\r\nX-Forwarded-Port: "...)
	b = append(b, o.port...)
	return append(b, "\r\n"...)
}

// appendHeader appends every header of the request that is passed on, and the origin.
func appendHeader(b []byte, h http.Header, o origin) []byte {
	for name, values := range h {
		if !forwards(name) {
			continue
		}
		for _, v := range values {
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	return appendOrigin(b, o)
}

// setOrigin does the same for a header that is not written by this package.
func setOrigin(h http.Header, o origin) {
	for name := range h {
		if !forwards(name) && name != "Te" && name != "Trailer" {
			delete(h, name)
		}
	}
	h.Set("X-Forwarded-For", o.addr)
	h.Set("X-Forwarded-Proto", o.proto)
	h.Set("X-Forwarded-Host", o.host)
	h.Set("X-Forwarded-Port", o.port)
}

// upgradeType returns the protocol that a request asks to continue with, or "". Cleartext
// HTTP/2 is not one of them: it would carry requests past the router (CVE-2021-21295 and kin).
func upgradeType(r *http.Request) string {
	up := r.Header["Upgrade"]
	if len(up) != 1 || r.ProtoMajor != 1 || r.Method != http.MethodGet || r.ContentLength != 0 {
		return ""
	}
	if !hasToken(r.Header["Connection"], "upgrade") || !isToken(up[0]) || strings.EqualFold(up[0], "h2c") {
		return ""
	}
	return up[0]
}

// hasToken reports whether a comma-separated header has an element, whatever its case.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// isToken reports whether s is a token of RFC 9110 §5.6.2.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tokenBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

var tokenBytes = func() (t [256]bool) {
	for b := byte('0'); b <= '9'; b++ {
		t[b] = true
	}
	for b := byte('a'); b <= 'z'; b++ {
		t[b], t[b-'a'+'A'] = true, true
	}
	for _, b := range []byte("!#$%&'*+-.^_`|~") {
		t[b] = true
	}
	return t
}()
