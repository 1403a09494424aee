package manifest

import (
	"regexp"
	"slices"
	"strings"
)

// shellWords are commands that only a shell has.
var shellWords = []string{
	".", ":", "alias", "case", "cd", "command", "eval", "exec", "exit", "export", "for", "if", "read", "set",
	"shift", "source", "test", "trap", "type", "ulimit", "umask", "unset", "until", "wait", "while",
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// command returns the words to run: a list as it is, a string split into words if it needs no
// shell, and sh -c with the string if it does.
func (l *loader) command(n *node) []string {
	if n.is(list) {
		return n.strings()
	}
	line := n.string("")
	if strings.TrimSpace(line) == "" {
		return nil
	}
	words, ok := Words(line)
	if !ok {
		l.problem(n, "%s: a quote or a backslash at its end is not closed", n.path)
	}
	return words
}

// Words returns the words to run for a command that is one line: the line split by the quoting
// rules of a shell, or sh -c with the line when it needs one. ok is false when a quote stays open.
func Words(line string) (words []string, ok bool) {
	words, plain, ok := splitWords(line)
	switch {
	case !ok:
		return nil, false
	case !plain || len(words) == 0 || assignment.MatchString(words[0]) || slices.Contains(shellWords, words[0]):
		return []string{"sh", "-c", line}, true
	}
	return words, true
}

// splitWords splits a line by the quoting rules of POSIX (Shell Command Language, 2.2). plain
// is false if the line uses anything else of a shell; ok is false if a quote stays open.
func splitWords(line string) (words []string, plain, ok bool) {
	var word strings.Builder
	inWord, quoted := false, rune(0)
	plain = true
	runes := []rune(strings.TrimRight(line, "\n"))
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case quoted == '\'' && r != '\'':
			word.WriteRune(r)
		case quoted != 0 && r == quoted:
			quoted = 0
		case r == '\\':
			i++
			if i == len(runes) {
				return nil, plain, false
			}
			if quoted == '"' && !strings.ContainsRune("$`\"\\\n", runes[i]) {
				word.WriteRune('\\')
			}
			if runes[i] != '\n' {
				word.WriteRune(runes[i])
				inWord = true
			}
		case quoted == '"':
			plain = plain && !strings.ContainsRune("$`", r)
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quoted, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			plain = plain && !strings.ContainsRune("|&;<>()$`*?[]{}~!#\n\r", r)
			word.WriteRune(r)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, plain, quoted == 0
}

// written returns the command as it stands in the text, for people to read.
func written(n *node) string {
	if !n.is(list) {
		return source(n)
	}
	var words []string
	for _, item := range n.items {
		words = append(words, source(item))
	}
	return strings.Join(words, " ")
}

func source(n *node) string {
	if n == nil {
		return ""
	}
	return n.source
}
