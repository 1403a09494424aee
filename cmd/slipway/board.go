package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"slipway/api"
)

// board shows a deployment while it goes on: on a terminal it draws over itself, elsewhere it
// writes a line for every change.
type board struct {
	w     io.Writer
	term  *os.File // nil elsewhere
	drawn int      // lines to draw over
	told  map[string]string
}

func (s *shell) newBoard() *board {
	b := &board{w: s.progress(), told: map[string]string{}}
	if s.env["TERM"] != "dumb" {
		b.term = terminal(b.w)
	}
	return b
}

// show shows an update.
func (b *board) show(u api.DeploymentUpdate) {
	lines := boardLines(u)
	if b.term != nil {
		size := terminalSize(b.term)
		b.redraw(lines, int(size.Cols), int(size.Rows))
		return
	}
	for _, l := range lines {
		if b.told[l.key] != l.text {
			b.told[l.key] = l.text
			fmt.Fprintln(b.w, l.text)
		}
	}
}

// redraw draws over what was drawn before. It never draws more than the terminal is high: what
// has scrolled away cannot be drawn over. What is ready is left out first.
func (b *board) redraw(lines []boardLine, cols, rows int) {
	if most := max(rows-1, 1); len(lines) > most {
		slices.SortStableFunc(lines, func(x, y boardLine) int { return x.rank - y.rank })
		more := boardLine{text: fmt.Sprintf("... and %d more", len(lines)-most+1)}
		lines = append(lines[:most-1:most-1], more)
	}
	var out strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA\x1b[J", b.drawn)
	}
	for _, l := range lines {
		text := []rune(l.text)
		if len(text) >= cols {
			text = text[:max(cols-1, 0)]
		}
		out.WriteString(string(text) + "\n")
	}
	b.drawn = len(lines)
	_, _ = io.WriteString(b.w, out.String()) // progress only
}

// boardLine is a line about one thing. Those of higher rank matter less.
type boardLine struct {
	key, text string
	rank      int
}

// boardLines says how far a deployment is: one line per new process, and one per service that
// waits.
func boardLines(u api.DeploymentUpdate) []boardLine {
	var lines []boardLine
	for _, service := range u.Services {
		if service.Waiting != "" {
			lines = append(lines, boardLine{key: "service " + string(service.Name), text: oneLine(fmt.Sprintf("%s waits: %s", service.Name, service.Waiting))})
		}
	}
	processes := slices.Clone(u.Processes)
	slices.SortStableFunc(processes, func(a, b api.ProcessInfo) int { return strings.Compare(string(a.Service), string(b.Service)) })
	for _, p := range processes {
		if p.Release != u.Deployment.Release {
			continue
		}
		text := fmt.Sprintf("%s %s", p.Service, p.ID)
		if p.Node != "" {
			text += " on " + p.Node
		}
		text += ": " + processWord(p)
		if p.Message != "" && !p.Ready {
			text += ": " + p.Message
		}
		rank := 0
		if p.Ready {
			rank = 1
		}
		lines = append(lines, boardLine{string(p.ID), oneLine(text), rank})
	}
	if u.Deployment.Status == api.DeployRollingBack {
		lines = append(lines, boardLine{key: "deployment", text: oneLine("rolling back: " + orElse(u.Deployment.Cause, "the deployment failed"))})
	}
	return lines
}

// processWord says how far a process is.
func processWord(p api.ProcessInfo) string {
	switch {
	case p.Ready:
		return "ready"
	case p.Status == "running" && p.Health == api.HealthHealthy:
		return "healthy"
	case p.Exit != nil:
		return fmt.Sprintf("%s with exit code %d", p.Status, *p.Exit)
	}
	return p.Status
}
