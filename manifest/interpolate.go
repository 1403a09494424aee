package manifest

import (
	"cmp"
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
	return token.ReplaceAllStringFunc(s, func(t string) string {
		return "${" + l.variable(strings.Trim(t, string(tokenOpen)+string(tokenClose))) + "}"
	})
}

// variable returns the name that the number of a token stands for.
func (l *loader) variable(number string) string {
	i, err := strconv.Atoi(number)
	if err != nil || i >= len(l.vars) {
		return ""
	}
	return l.vars[i]
}

// interpolate fills the text of a scalar. Values are not looked at again: a value that holds
// ${NAME} keeps it.
func (l *loader) interpolate(n *node, tokens string) error {
	if !strings.ContainsRune(tokens, tokenOpen) {
		n.text, n.source = tokens, tokens
		return l.checkLength(n, len(tokens))
	}
	n.vars = true
	var text, source strings.Builder
	at := 0
	for _, m := range token.FindAllStringSubmatchIndex(tokens, -1) {
		name := l.variable(tokens[m[2]:m[3]])
		value, ok := l.env[name]
		if !ok {
			n.unset = cmp.Or(n.unset, name)
			l.warnMissing(n, name)
		}
		text.WriteString(tokens[at:m[0]] + value)
		source.WriteString(tokens[at:m[0]] + "${" + name + "}")
		at = m[1]
		if err := l.checkLength(n, max(text.Len(), source.Len())); err != nil {
			return err
		}
	}
	n.text, n.source = text.String()+tokens[at:], source.String()+tokens[at:]
	return l.checkLength(n, max(len(n.text), len(n.source)))
}

func (l *loader) checkLength(n *node, length int) error {
	if length <= scalarMax {
		return nil
	}
	l.problem(n, "%sa text of more than %d bytes, variables counted with their values", prefix(n.path), scalarMax)
	return errTooLarge
}

func (l *loader) warnMissing(n *node, name string) {
	if simpleName.MatchString(name) {
		l.warn(n, "%s: ${%s} is empty, the environment has no %s", n.path, name, name)
		return
	}
	l.warn(n, "%s: %s is empty, only a plain ${NAME} is replaced: there are no defaults or other operators", n.path, quote("${"+name+"}"))
}
