package manifest

import (
	"regexp"
	"strconv"
	"strings"
)

// A variable in the text is replaced by a token before the YAML is parsed, and the token by
// the value afterwards. A token is a number between two runes that have no meaning in YAML, so
// that ${NAME} may stand wherever Convox allows it (in a flow list, say) while its value never
// meets the parser.
const (
	tokenOpen  = '\U0010FFF0'
	tokenClose = '\U0010FFF1'
)

var (
	variable   = regexp.MustCompile(`\$\{([^}\n]*)\}`)
	token      = regexp.MustCompile(string(tokenOpen) + `([0-9]+)` + string(tokenClose))
	simpleName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// tokenize replaces each ${NAME} by a token and remembers the names.
func (l *loader) tokenize(text string) string {
	return variable.ReplaceAllStringFunc(text, func(s string) string {
		l.vars = append(l.vars, s[2:len(s)-1])
		return string(tokenOpen) + strconv.Itoa(len(l.vars)-1) + string(tokenClose)
	})
}

// untokenize puts ${NAME} back for each token.
func (l *loader) untokenize(s string) string {
	return token.ReplaceAllStringFunc(s, func(t string) string { return "${" + l.variable(t) + "}" })
}

// variable returns the name that a token stands for.
func (l *loader) variable(t string) string {
	i, err := strconv.Atoi(strings.Trim(t, string(tokenOpen)+string(tokenClose)))
	if err != nil || i >= len(l.vars) {
		return ""
	}
	return l.vars[i]
}

// interpolate fills the text of a scalar. Values are not looked at again: a value that holds
// ${NAME} keeps it.
func (l *loader) interpolate(n *node, tokens string) {
	if !strings.ContainsRune(tokens, tokenOpen) {
		n.text, n.source = tokens, tokens
		return
	}
	n.vars = true
	n.source = l.untokenize(tokens)
	n.text = token.ReplaceAllStringFunc(tokens, func(t string) string {
		name := l.variable(t)
		value, ok := l.env[name]
		if !ok {
			l.warnMissing(n, name)
		}
		return value
	})
}

func (l *loader) warnMissing(n *node, name string) {
	if simpleName.MatchString(name) {
		l.warn(n, "%s: ${%s} is empty, the environment has no %s", n.path, name, name)
		return
	}
	l.warn(n, "%s: %s is empty, only a plain ${NAME} is replaced: there are no defaults or other operators", n.path, quote("${"+name+"}"))
}
