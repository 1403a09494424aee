package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

var (
	yamlLine   = regexp.MustCompile(`^line (\d+): `)
	yamlAnchor = regexp.MustCompile(`^unknown anchor '([^']+)' referenced`)
)

// decode returns the root of the one document in the text; nil if it is empty.
func decode(text string) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	var doc yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	var next yaml.Node
	switch err := decoder.Decode(&next); {
	case errors.Is(err, io.EOF):
		return doc.Content[0], nil
	case err != nil:
		return nil, fmt.Errorf("parse: %w", err)
	}
	return nil, fmt.Errorf("parse: yaml: line %d: a second document begins, a manifest is one", next.Line)
}

// syntaxHelp says what usually causes an error of the YAML parser. In those of its grammar,
// where what is wrong shows late, it counts lines from 0 and names the block that it was in.
var syntaxHelp = []struct {
	message string
	grammar bool
	hint    string
}{
	{"found character that cannot start any token", false, "put a value that begins with @, ` or % in quotes"},
	{"did not find expected alphabetic or numeric character", false, "put a value that begins with * or & in quotes, such as \"*\""},
	{"mapping values are not allowed", false, "put a value with a colon and a space in quotes, and give a key the indentation of its neighbours"},
	{"could not find expected ':'", false, "add a colon and a space after the key, or correct the indentation"},
	{"unexpected end of stream", false, "close the quote that was opened there"},
	{"unknown escape character", false, "double the backslash, or use single quotes"},
	{"expected key", true, "look for a wrong indentation or an open quote in the block that begins there"},
	{"expected '-' indicator", true, "look for a wrong indentation in the list that begins there"},
	{"expected ','", true, "close the bracket or the brace that was opened there"},
	{"expected node content", true, "write a value"},
	{"expected <document start>", true, "correct the indentation of the first key"},
	{"directive", true, "remove it"},
	{"undefined tag handle", true, "remove the tag"},
}

// syntaxProblem reports an error of the YAML parser at its line.
func (l *loader) syntaxProblem(text string, err error) {
	message := strings.TrimPrefix(err.Error(), "parse: ")
	message = strings.TrimPrefix(message, "yaml: ")
	at := &node{line: 1}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		at.line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	hint, text := "", oneBreak.Replace(text)
	for _, help := range syntaxHelp {
		if strings.Contains(message, help.message) {
			hint = help.hint
			if help.grammar && at.line < lines(text) {
				at.line++
			}
			break
		}
	}
	if strings.HasPrefix(strings.TrimLeft(line(text, at.line), " "), "\t") {
		hint = "indent with spaces, not with tabs"
	}
	for _, name := range l.vars {
		if strings.ContainsAny(name, "\"'") {
			hint = "write } after the name of the variable in " + quote("${"+name)
		}
	}
	if m := yamlAnchor.FindStringSubmatch(message); m != nil {
		at = lineAt(text, max(0, strings.Index(text, "*"+m[1])))
		hint = "define it above with &" + m[1] + ", or put the value in quotes"
	}
	l.problem(at, "not valid YAML: %s", l.untokenize(message)).hint(hint)
}

// oneBreak makes all line breaks of YAML the same.
var oneBreak = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// lines counts the lines of a text.
func lines(text string) int { return strings.Count(strings.TrimSuffix(text, "\n"), "\n") + 1 }

// line returns a line of a text, counted from 1; "" if there is none.
func line(text string, number int) string {
	for range number - 1 {
		_, text, _ = strings.Cut(text, "\n")
	}
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// lineAt is a place for a problem: the line of a byte.
func lineAt(text string, offset int) *node {
	return &node{line: strings.Count(oneBreak.Replace(text[:offset]), "\n") + 1}
}

func invalidUTF8(text string) int {
	for i, r := range text {
		if _, size := utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && size == 1 {
			return i
		}
	}
	return 0
}

// unprintable reports a character that YAML forbids.
func unprintable(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r < 0xa0 && r != 0x85 || r == 0xfffe || r == 0xffff
}
