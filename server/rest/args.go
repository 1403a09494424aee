package rest

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"slipway/api"
)

// formMax bounds a form, in bytes: an environment of 128 KiB, escaped.
const formMax = 1 << 20

// arguments reads the parameters of a request and checks them.
func arguments(w http.ResponseWriter, r *http.Request, rt *route) (map[string]any, error) {
	if err := readForm(w, r, rt); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the query of the request cannot be read: %w", err)
	}
	args := map[string]any{}
	for _, p := range rt.all() {
		text, given := find(r, query, rt, &p)
		if p.missing && given {
			return nil, missing("parameter %s is not supported by this rack: %s", p.name, p.doc)
		}
		if !given || text == "" && p.kind != kindText && p.kind != "" {
			if p.required {
				return nil, api.Errorf(api.CodeInvalid, "parameter required: %s (%s)", p.name, p.doc)
			}
			continue
		}
		if args[p.name], err = p.parse(text); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// readForm reads the body of a request that may have a form.
func readForm(w http.ResponseWriter, r *http.Request, rt *route) error {
	hasForm := false
	for _, p := range rt.params {
		hasForm = hasForm || p.in == inForm
	}
	if !hasForm || r.ContentLength == 0 {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return &refusal{status: http.StatusUnsupportedMediaType,
			message: "the parameters of " + r.Method + " " + rt.path + " are sent as application/x-www-form-urlencoded, not as " + strconv.Quote(clip(r.Header.Get("Content-Type")))}
	}
	r.Body = http.MaxBytesReader(w, r.Body, formMax)
	err := r.ParseForm()
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return api.Errorf(api.CodeExhausted, "the parameters are larger than %d bytes", large.Limit)
	}
	if err != nil {
		return api.Errorf(api.CodeInvalid, "the parameters cannot be read: %w", err)
	}
	return nil
}

// find returns a parameter as it was sent. What belongs into a form may stand in the query.
func find(r *http.Request, query url.Values, rt *route, p *param) (text string, given bool) {
	switch p.in {
	case inPath:
		text = r.PathValue(p.name)
		if rt.archive() && p.name == "id" {
			text = strings.TrimSuffix(text, ".tgz")
		}
		return text, text != ""
	case inHeader:
		values := r.Header.Values(p.name)
		if len(values) == 0 {
			return "", false
		}
		return values[0], true
	case inForm:
		if r.PostForm.Has(p.name) {
			return r.PostForm.Get(p.name), true
		}
	}
	return query.Get(p.name), query.Has(p.name)
}

// parse reads and checks the text of a parameter.
func (p *param) parse(text string) (any, error) {
	most := p.most
	if most == 0 {
		most = textMax
	}
	switch {
	case p.required && strings.TrimSpace(text) == "":
		return nil, api.Errorf(api.CodeInvalid, "parameter required: %s (%s)", p.name, p.doc)
	case p.kind == kindNumber:
		return p.parseNumber(text)
	case len(text) > most:
		return nil, api.Errorf(api.CodeExhausted, "parameter %s is %d bytes long, the limit is %d", p.name, len(text), most)
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return nil, api.Errorf(api.CodeInvalid, "parameter %s is not text", p.name)
	}
	switch p.kind {
	case kindBool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "parameter %s: %q is neither true nor false", p.name, clip(text))
		}
		return v, nil
	case kindDuration:
		v, err := time.ParseDuration(text)
		if err != nil || v < 0 {
			return nil, api.Errorf(api.CodeInvalid, "parameter %s: %q is no duration; write it as 2m or 1h30m", p.name, clip(text))
		}
		return v, nil
	case kindPairs:
		return parsePairs(p.name, text)
	}
	return text, nil
}

func (p *param) parseNumber(text string) (any, error) {
	most := p.most
	if most == 0 {
		most = numberMax
	}
	v, err := strconv.Atoi(text)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "parameter %s: %q is no whole number", p.name, clip(text))
	}
	if v < p.least || v > most {
		return nil, api.Errorf(api.CodeInvalid, "parameter %s: %d is not within %d to %d", p.name, v, p.least, most)
	}
	return v, nil
}

// parsePairs reads A=1&B=2.
func parsePairs(name, text string) (map[string]string, error) {
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "parameter %s: %w", name, err)
	}
	out := map[string]string{}
	for k := range values {
		out[k] = values.Get(k)
	}
	return out, nil
}

// parseEnv reads an environment as Convox writes it: a line for each variable. A line without "="
// would be lost, and so is an error.
func parseEnv(text string) (map[string]string, error) {
	env := map[string]string{}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r") // else a value that ends in one would change when it is written and read again
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, api.Errorf(api.CodeInvalid, "line %d of the environment is not of the form NAME=value; values of several lines are for: slipway env set", n+1)
		}
		env[name] = value
	}
	return env, nil
}

// clip shortens what is shown of a text.
func clip(text string) string {
	if len(text) > 80 {
		return text[:80] + "…"
	}
	return text
}
