package manifest

import (
	"regexp"
	"strconv"
	"strings"
)

// parseFlag reads a boolean of YAML 1.1 (type repository, bool): y, yes, on, true and their
// opposites, in lower case, upper case or with a capital.
func parseFlag(s string) (value, ok bool) {
	low := strings.ToLower(s)
	if s != low && s != strings.ToUpper(s) && s != strings.ToUpper(low[:1])+low[1:] {
		return false, false
	}
	switch low {
	case "y", "yes", "on", "true":
		return true, true
	case "n", "no", "off", "false":
		return false, true
	}
	return false, false
}

var (
	wholeNumber = regexp.MustCompile(`^[-+]?(0x[0-9a-fA-F]+|0b[01]+|0o?[0-7]+|[0-9]+)$`)
	fraction    = regexp.MustCompile(`^[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$`)
)

// yaml11 returns the text that Convox makes of a plain scalar, and whether it is another than
// ours: booleans become "true" or "false", numbers are written anew.
func yaml11(n *node) (string, bool) {
	if !n.plain || n.vars {
		return n.text, false
	}
	other := n.text
	switch goType(n) {
	case "bool":
		value, _ := parseFlag(n.text)
		other = strconv.FormatBool(value)
	case "int":
		if v, err := strconv.ParseInt(digits(n.text), 0, 64); err == nil {
			other = strconv.FormatInt(v, 10)
		}
	case "float64":
		if v, err := strconv.ParseFloat(digits(n.text), 64); err == nil {
			other = strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
	return other, other != n.text
}

// digits drops the underscores that YAML 1.1 allows in a number.
func digits(s string) string {
	if s == "" || !strings.ContainsRune("+-.0123456789", rune(s[0])) {
		return s
	}
	return strings.ReplaceAll(s, "_", "")
}

// goType names the Go type that a YAML 1.1 decoder makes of a node, for the messages of Convox
// that hold it.
func goType(n *node) string {
	switch n.kind {
	case nothing:
		return "<nil>"
	case list:
		return "[]interface {}"
	case table:
		return "map[interface {}]interface {}"
	}
	if !n.plain || n.vars {
		return "string"
	}
	if _, ok := parseFlag(n.text); ok {
		return "bool"
	}
	switch {
	case wholeNumber.MatchString(digits(n.text)):
		return "int"
	case fraction.MatchString(digits(n.text)):
		return "float64"
	}
	return "string"
}
