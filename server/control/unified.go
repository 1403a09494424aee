package control

import (
	"fmt"
	"strings"
)

const (
	// contextLines is how much of what did not change a hunk shows on both sides.
	contextLines = 3
	// diffCells bounds the work of a diff: lines of one text times lines of the other.
	diffCells = 4_000_000
)

// edit is one line of a diff.
type edit struct {
	op   byte // ' ', '-', '+'
	text string
}

// unified returns a unified diff of two texts; "" when they are equal.
func unified(from, to string) string {
	if from == to {
		return ""
	}
	edits := edits(lines(from), lines(to))
	var out strings.Builder
	for start := 0; start < len(edits); {
		if edits[start].op == ' ' {
			start++
			continue
		}
		first, last := max(0, start-contextLines), start
		for i := start; i < len(edits) && i <= last+2*contextLines; i++ {
			if edits[i].op != ' ' {
				last = i
			}
		}
		end := min(len(edits), last+contextLines+1)
		writeHunk(&out, edits, first, end)
		start = end
	}
	return out.String()
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// writeHunk writes the edits from first up to end, under their line numbers.
func writeHunk(out *strings.Builder, all []edit, first, end int) {
	from, to := 1, 1
	for _, e := range all[:first] {
		if e.op != '+' {
			from++
		}
		if e.op != '-' {
			to++
		}
	}
	var removed, added int
	for _, e := range all[first:end] {
		if e.op != '+' {
			removed++
		}
		if e.op != '-' {
			added++
		}
	}
	fmt.Fprintf(out, "@@ -%d,%d +%d,%d @@\n", from, removed, to, added)
	for _, e := range all[first:end] {
		fmt.Fprintf(out, "%c%s\n", e.op, e.text)
	}
}

// edits finds the longest common subsequence of lines, or, where that is too much work,
// replaces everything between the common head and tail.
func edits(a, b []string) []edit {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head, a, b = append(head, edit{' ', a[0]}), a[1:], b[1:]
	}
	cut := 0
	for cut < len(a) && cut < len(b) && a[len(a)-1-cut] == b[len(b)-1-cut] {
		cut++
	}
	for _, line := range a[len(a)-cut:] {
		tail = append(tail, edit{' ', line})
	}
	a, b = a[:len(a)-cut], b[:len(b)-cut]
	return append(append(head, middle(a, b)...), tail...)
}

func middle(a, b []string) []edit {
	var out []edit
	i, j := 0, 0
	if len(a)*len(b) <= diffCells {
		common := commonLengths(a, b)
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				out = append(out, edit{' ', a[i]})
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				out = append(out, edit{'-', a[i]})
				i++
			default:
				out = append(out, edit{'+', b[j]})
				j++
			}
		}
	}
	for ; i < len(a); i++ {
		out = append(out, edit{'-', a[i]})
	}
	for ; j < len(b); j++ {
		out = append(out, edit{'+', b[j]})
	}
	return out
}

// commonLengths holds, for every pair of suffixes, the length of their longest common
// subsequence.
func commonLengths(a, b []string) [][]int32 {
	table := make([][]int32, len(a)+1)
	for i := range table {
		table[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			table[i][j] = max(table[i+1][j], table[i][j+1])
			if a[i] == b[j] {
				table[i][j] = table[i+1][j+1] + 1
			}
		}
	}
	return table
}
