package router

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// responseHead is the head of a response, checked: what could be read in two ways is an error.
type responseHead struct {
	status int
	header http.Header
	// length is the length of the body in bytes; -1 if it is chunked or ends with the
	// connection, as chunked tells.
	length  int64
	chunked bool
	// keep: the connection may carry another request after this response.
	keep bool
}

// errHead is the reason for a 502 that the process is to blame for.
type errHead string

func (e errHead) Error() string { return "malformed response: " + string(e) }

// readHead reads one head from c. An error before the first byte is returned as it is.
func readHead(c *conn) (responseHead, error) {
	for searched := 0; ; {
		b, _ := c.br.Peek(c.br.Buffered())
		if end := headEnd(b, searched); end > 0 {
			h, err := parseHead(string(b[:end]))
			if err != nil {
				return h, err
			}
			_, err = c.br.Discard(end)
			return h, err
		}
		searched = len(b)
		switch {
		case len(b) >= responseHeadMax:
			return responseHead{}, errHead("head of more than 64 KiB")
		case len(b) >= c.br.Size():
			c.grow(responseHeadMax)
		}
		if _, err := c.br.Peek(len(b) + 1); err != nil {
			if len(b) > 0 && errors.Is(err, io.EOF) {
				err = errHead("connection closed within the head")
			}
			return responseHead{}, err
		}
	}
}

// headEnd returns the length of the head at the start of b with its empty line, or 0 if b does
// not hold all of it. The first `from` bytes were searched before.
func headEnd(b []byte, from int) int {
	for i := max(0, from-2); ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n + 1
		switch {
		case i < len(b) && b[i] == '\n':
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

// parseHead parses a head that ends with its empty line.
func parseHead(s string) (responseHead, error) {
	var h responseHead
	line, s := cutLine(s)
	http11, status, ok := parseStatusLine(line)
	if !ok {
		return h, errHead("status line")
	}
	h.status, h.length = status, -1
	var f framing
	var err error
	if h.header, err = parseFields(s, &f); err != nil {
		return h, err
	}
	return h, h.frame(f, http11)
}

// framing collects what the header lines say about length and connection.
type framing struct {
	length   int64
	lengths  int
	codings  int
	chunked  bool
	close    bool
	keep     bool
	upgrade  bool
	badValue bool
}

// frame decides how long the response is.
func (h *responseHead) frame(f framing, http11 bool) error {
	h.keep = !f.close && (http11 || f.keep)
	switch {
	case f.badValue:
		return errHead("content-length")
	case f.codings > 0 && f.lengths > 0:
		return errHead("content-length beside transfer-encoding")
	case f.codings > 0 && (f.codings > 1 || !f.chunked || !http11):
		return errHead("transfer-encoding")
	case f.chunked:
		h.chunked = true
	case f.lengths > 0:
		h.length = f.length
	}
	return nil
}

func parseStatusLine(line string) (http11 bool, status int, ok bool) {
	if len(line) < 12 || line[:7] != "HTTP/1." || (line[7] != '0' && line[7] != '1') || line[8] != ' ' {
		return false, 0, false
	}
	for _, b := range []byte(line[9:12]) {
		if b < '0' || b > '9' {
			return false, 0, false
		}
		status = status*10 + int(b-'0')
	}
	ok = status >= 100 && status <= 599 && (len(line) == 12 || line[12] == ' ') && validValue(line)
	return line[7] == '1', status, ok
}

// cutLine returns the first line of s without its end, and what follows.
func cutLine(s string) (line, rest string) {
	i := strings.IndexByte(s, '\n')
	if i < 0 {
		return s, ""
	}
	line, rest = s[:i], s[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

// parseFields parses header lines up to the empty one. Lines about framing and hop-by-hop
// headers go to f and are left out; with f nil (trailers) they are errors.
func parseFields(s string, f *framing) (http.Header, error) {
	n := strings.Count(s, "\n")
	header := make(http.Header, n+1)
	values := make([]string, 0, n) // one array for all values
	var listed []string
	for {
		var line string
		line, s = cutLine(s)
		if line == "" {
			break
		}
		i := strings.IndexByte(line, ':')
		if i < 0 || !isToken(line[:i]) {
			return nil, errHead("header line")
		}
		name, value := http.CanonicalHeaderKey(line[:i]), strings.Trim(line[i+1:], " \t")
		if !validValue(value) {
			return nil, errHead("header value")
		}
		if hop, bad := f.field(name, value); bad {
			return nil, errHead("framing in a trailer")
		} else if hop {
			if name == "Connection" {
				listed = append(listed, value)
			}
			continue
		}
		if old, ok := header[name]; ok {
			header[name] = append(old, value)
			continue
		}
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	if listed != nil {
		dropConnection(header, listed)
	}
	if f != nil && f.lengths > 0 {
		header["Content-Length"] = []string{strconv.FormatInt(f.length, 10)}
	}
	return header, nil
}

// field notes a line about framing or the connection. hop lines are not passed on; bad ones
// have no place where f is nil.
func (f *framing) field(name, value string) (hop, bad bool) {
	switch name {
	case "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade":
	default:
		return false, false
	}
	if f == nil {
		return false, true
	}
	switch name {
	case "Content-Length":
		n, ok := parseLength(value)
		f.badValue = f.badValue || !ok || (f.lengths > 0 && n != f.length)
		f.length = n
		f.lengths++
	case "Transfer-Encoding":
		f.codings++
		f.chunked = strings.EqualFold(value, "chunked")
	case "Connection":
		f.close = f.close || hasToken([]string{value}, "close")
		f.keep = f.keep || hasToken([]string{value}, "keep-alive")
	case "Upgrade":
		return false, false // needed with a 101; dropped from other responses by the copier
	}
	return true, false
}

// dropConnection removes the headers that the process named in Connection.
func dropConnection(h http.Header, listed []string) {
	for _, line := range listed {
		for name := range strings.SplitSeq(line, ",") {
			if key := http.CanonicalHeaderKey(strings.TrimSpace(name)); key != "Upgrade" {
				delete(h, key)
			}
		}
	}
}

// parseLength parses digits only: no sign, no spaces, no overflow.
func parseLength(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// validValue reports whether a value can be written on one line: no CR, LF, NUL or other control
// byte but the tab (RFC 9110 §5.5).
func validValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if b := s[i]; (b < ' ' && b != '\t') || b == 0x7f {
			return false
		}
	}
	return true
}

// readTrailer reads what follows the last chunk of a body: header lines and an empty line.
func readTrailer(br *bufio.Reader) (http.Header, error) {
	var lines []byte
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		lines = append(lines, line...)
		if len(line) == 1 || (len(line) == 2 && line[0] == '\r') {
			break
		}
		if len(lines) > connBuffer {
			return nil, errHead("trailer of more than 8 KiB")
		}
	}
	if len(lines) <= 2 {
		return nil, nil
	}
	return parseFields(string(lines), nil)
}
