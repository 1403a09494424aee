package manifest

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// errTooLarge ends the building of a tree that exceeds a limit.
var errTooLarge = errors.New("manifest too large")

// parse builds the tree. What cannot be parsed is reported, and gives an empty tree.
func (l *loader) parse(text string) *node {
	empty := &node{kind: table}
	switch {
	case len(text) > SizeMax:
		l.problem(nil, "manifest is %d bytes long, the limit is %d", len(text), SizeMax)
		return empty
	case !utf8.ValidString(text):
		l.problem(lineAt(text, invalidUTF8(text)), "manifest is not valid UTF-8").hint("save the file as UTF-8")
		return empty
	case strings.ContainsRune(text, tokenOpen) || strings.ContainsRune(text, tokenClose):
		at := strings.IndexFunc(text, func(r rune) bool { return r == tokenOpen || r == tokenClose })
		l.problem(lineAt(text, at), "manifest contains the reserved character %U or %U", tokenOpen, tokenClose).hint("remove it")
		return empty
	}
	if at := strings.IndexFunc(text, unprintable); at >= 0 {
		r, _ := utf8.DecodeRuneInString(text[at:])
		l.problem(lineAt(text, at), "not valid YAML: control characters such as %U are not allowed", r).
			hint("remove it, or write it in double quotes as an escape such as \\x1b")
		return empty
	}

	doc, err := decode(l.tokenize(text))
	if err != nil {
		l.syntaxProblem(text, err)
		return empty
	}
	if doc == nil {
		return empty
	}
	root, err := l.build(doc, "", nil)
	switch {
	case err != nil || root.kind == nothing:
		return empty
	case root.kind == scalar:
		l.problem(root, "manifest must be a map of keys such as services%s", got(root))
		return empty
	case root.kind != table:
		l.problem(root, "manifest must be a map of keys such as services, got %s", root.kind)
		return empty
	}
	return root
}

// build turns a YAML node into ours. trail holds the nodes above it, which shows how deep it
// is and whether an alias leads back into itself.
func (l *loader) build(y *yaml.Node, path string, trail []*yaml.Node) (*node, error) {
	n := &node{line: y.Line, path: path}
	l.nodes++
	switch {
	case l.nodes > nodesMax:
		l.problem(n, "manifest has more than %d values, aliases counted as what they stand for", nodesMax)
		return nil, errTooLarge
	case len(trail) > depthMax:
		l.problem(n, "manifest is nested deeper than %d levels", depthMax)
		return nil, errTooLarge
	case len(path) > pathMax:
		l.problem(&node{line: y.Line}, "the path of the key %s is longer than %d bytes", quote(path[strings.LastIndex(path, ".")+1:]), pathMax)
		return nil, errTooLarge
	}
	for _, above := range trail {
		if above == y {
			l.problem(n, "anchor %s contains itself", quote(y.Anchor)).hint("a list or a map cannot be part of itself")
			return n, nil
		}
	}
	trail = append(trail[:len(trail):len(trail)], y)
	if !knownTag(y) {
		l.problem(n, "%stag %s is not supported, write the value without it", prefix(path), quote(l.untokenize(y.Tag)))
		return n, nil
	}

	switch y.Kind {
	case yaml.AliasNode:
		return l.build(y.Alias, path, trail)
	case yaml.ScalarNode:
		return n, l.buildScalar(n, y)
	case yaml.SequenceNode:
		n.kind = list
		if len(y.Content) > entriesMax {
			return nil, l.tooMany(n, len(y.Content))
		}
		for i, item := range y.Content {
			child, err := l.build(item, fmt.Sprintf("%s[%d]", path, i), trail)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, child)
		}
	case yaml.MappingNode:
		n.kind = table
		return n, l.buildTable(n, y, trail)
	}
	return n, nil
}

// tooMany reports a list or a map that is too long.
func (l *loader) tooMany(n *node, entries int) error {
	name := n.path
	if name == "" {
		name = "manifest"
	}
	l.problem(n, "%s has %d entries, the limit is %d", name, entries, entriesMax)
	return errTooLarge
}

func (l *loader) buildScalar(n *node, y *yaml.Node) error {
	n.plain = y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 && y.Tag != "!!str" ||
		y.Style == 0
	n.kind = scalar
	if err := l.interpolate(n, y.Value); err != nil {
		return err
	}
	l.expanded += len(n.text) + len(n.source)
	if l.expanded > expandedMax {
		l.problem(n, "manifest is longer than %d bytes, aliases and variables counted as what they stand for", expandedMax)
		return errTooLarge
	}
	if n.plain && (y.Tag == "!!null" || n.text == "") {
		n.kind, n.text = nothing, ""
	}
	if strings.ContainsRune(n.source, 0) {
		l.problem(n, "%scontains a NUL byte", prefix(n.path))
	}
	return nil
}

// buildTable reads the keys of a table, then those merged into it by "<<" that it has not.
func (l *loader) buildTable(n *node, y *yaml.Node, trail []*yaml.Node) error {
	if len(y.Content)/2 > entriesMax {
		return l.tooMany(n, len(y.Content)/2)
	}
	seen := map[string]int{}
	var merged []*node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, ok := l.key(y.Content[i], n.path)
		if !ok {
			continue
		}
		at := &node{line: y.Content[i].Line, path: join(n.path, key)}
		value, err := l.build(y.Content[i+1], at.path, trail)
		if err != nil {
			return err
		}
		if key == "<<" {
			merged = append(merged, value.mergeSources()...)
			if !value.is(table) && !value.is(list) {
				l.problem(at, "%s<< must name an anchor with a map, such as <<: *base", prefix(n.path))
			}
			continue
		}
		if first := seen[key]; first != 0 {
			l.problem(at, "%sduplicate key %s, first at line %d", prefix(n.path), quote(key), first).hint("remove one of them")
			continue
		}
		seen[key] = at.line
		value.line = at.line
		n.fields = append(n.fields, field{key, value})
	}
	for _, source := range merged {
		for _, f := range source.fields {
			if seen[f.name] == 0 {
				if len(n.fields) >= entriesMax {
					return l.tooMany(n, entriesMax+1)
				}
				seen[f.name] = f.value.line
				n.fields = append(n.fields, field{f.name, f.value.moved(n.path, f.name)})
			}
		}
	}
	return nil
}

// key returns the text of a key; ${NAME} cannot be part of one.
func (l *loader) key(y *yaml.Node, path string) (string, bool) {
	if y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	at := &node{line: y.Line, path: path}
	switch {
	case y.Kind != yaml.ScalarNode:
		l.problem(at, "%sa key must be text", prefix(path))
		return "", false
	case strings.ContainsRune(y.Value, tokenOpen):
		l.problem(at, "%skey %s: a variable can fill a value, but not a key", prefix(path), quote(l.untokenize(y.Value)))
		return "", false
	case strings.ContainsRune(y.Value, 0):
		l.problem(at, "%sa key contains a NUL byte", prefix(path))
		return "", false
	}
	return y.Value, true
}

// mergeSources returns the tables that a "<<" stands for, the winning one first.
func (n *node) mergeSources() []*node {
	if n.is(table) {
		return []*node{n}
	}
	var sources []*node
	for _, item := range n.items {
		if item.is(table) {
			sources = append(sources, item)
		}
	}
	return sources
}

// moved returns n under another path, with everything below it.
func (n *node) moved(path, name string) *node {
	from, to := n.path, join(path, name)
	var move func(*node) *node
	move = func(n *node) *node {
		c := *n
		c.path = to + strings.TrimPrefix(n.path, from)
		c.items, c.fields = nil, nil
		for _, item := range n.items {
			c.items = append(c.items, move(item))
		}
		for _, f := range n.fields {
			c.fields = append(c.fields, field{f.name, move(f.value)})
		}
		return &c
	}
	return move(n)
}

// knownTag reports whether a node has no explicit tag, or one of the core schema.
func knownTag(y *yaml.Node) bool {
	if y.Style&yaml.TaggedStyle == 0 {
		return y.Tag != "!!binary"
	}
	switch y.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!seq", "!!map":
		return true
	}
	return false
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// prefix returns "path: ", or nothing for the root.
func prefix(path string) string {
	if path == "" {
		return ""
	}
	return path + ": "
}
