// Package docs holds the pages of the documentation, and finds the commands in them, so that tests
// can compare both with the programs. Nothing but tests imports it.
package docs

import (
	"regexp"
	"strings"
)

var (
	fenceRule   = regexp.MustCompile("(?s)```([a-z]*)\n(.*?)```")
	inlineRule  = regexp.MustCompile("`([^`\n]+)`")
	commentRule = regexp.MustCompile(`(^|\s)#\s.*$`)
	splitRule   = regexp.MustCompile(`&&|\|\||[;|]`)
	wordRule    = regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s'"]+`)
)

// Commands returns the arguments of each command line of a program in a page: those in blocks of
// "sh" and "console", and those in the text that name the program and an argument.
func Commands(page, program string) (out [][]string) {
	add := func(line string) {
		line = commentRule.ReplaceAllString(line, "")
		for _, part := range splitRule.Split(line, -1) {
			words := wordRule.FindAllString(part, -1)
			for len(words) > 0 && (words[0] == "$" || words[0] == "sudo" || strings.Contains(words[0], "=")) {
				words = words[1:] // prompt and environment
			}
			if len(words) < 2 || words[0] != program {
				continue
			}
			var args []string
			for _, w := range words[1:] {
				if w == "<" || w == ">" {
					break
				}
				args = append(args, strings.Trim(w, `'"`))
			}
			out = append(out, args)
		}
	}
	text := fenceRule.ReplaceAllStringFunc(page, func(block string) string {
		m := fenceRule.FindStringSubmatch(block)
		if m[1] == "sh" || m[1] == "console" {
			for line := range strings.Lines(strings.ReplaceAll(m[2], "\\\n", " ")) {
				add(strings.TrimSpace(line))
			}
		}
		return ""
	})
	for _, m := range inlineRule.FindAllStringSubmatch(text, -1) {
		add(m[1])
	}
	return out
}
