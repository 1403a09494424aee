package build

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// lineMax cuts lines that a step prints without an end, in bytes.
const lineMax = 16 << 10

// progress turns the engine's status into plain lines:
//
//	#3 [2/4] RUN go build
//	#3 compiling …
//	#3 done 1.2s
type progress struct {
	log   func(stream, text string)
	steps map[digest.Digest]*step
	next  int
}

// step is one vertex of the engine's graph.
type step struct {
	number int
	name   string
	failed bool
	ended  bool
	// lines are the last ones it printed.
	lines []string
	// partial holds what came after the last newline, per stream.
	partial map[int][]byte
}

func newProgress(log func(stream, text string)) *progress {
	return &progress{log: log, steps: map[digest.Digest]*step{}}
}

// follow reads status until ch is closed.
func (p *progress) follow(ch chan *client.SolveStatus) {
	for status := range ch {
		for _, v := range status.Vertexes {
			p.vertex(v)
		}
		for _, l := range status.Logs {
			if s := p.steps[l.Vertex]; s != nil {
				p.output(s, l.Stream, l.Data)
			}
		}
		for _, w := range status.Warnings {
			p.log("stderr", "warning: "+string(w.Short))
		}
	}
	for _, s := range p.steps {
		p.flush(s)
	}
}

func (p *progress) vertex(v *client.Vertex) {
	s := p.steps[v.Digest]
	if s == nil {
		s = &step{name: strings.TrimSpace(v.Name), partial: map[int][]byte{}}
		p.steps[v.Digest] = s
	}
	if v.Started == nil || s.ended {
		return
	}
	if s.number == 0 {
		p.next++
		s.number = p.next
		p.line(s, "stdout", s.name)
	}
	if v.Completed == nil {
		return
	}
	p.flush(s)
	s.ended = true
	took := v.Completed.Sub(*v.Started).Round(time.Millisecond)
	switch {
	case v.Error != "" && strings.Contains(v.Error, "context canceled"):
		p.line(s, "stderr", "cancelled")
	case v.Error != "":
		s.failed = true
		p.line(s, "stderr", "failed: "+v.Error)
	case v.Cached:
		p.line(s, "stdout", "cached")
	default:
		p.line(s, "stdout", fmt.Sprintf("done %s", took))
	}
}

func (p *progress) output(s *step, stream int, data []byte) {
	data = append(s.partial[stream], data...)
	for {
		line, rest, found := bytes.Cut(data, []byte("\n"))
		if !found && len(data) < lineMax {
			break
		}
		if !found || len(line) > lineMax {
			rest, line = data[lineMax:], data[:lineMax]
		}
		p.print(s, stream, line)
		data = rest
	}
	s.partial[stream] = slices.Clone(data)
}

func (p *progress) flush(s *step) {
	for stream, rest := range s.partial {
		if len(rest) > 0 {
			p.print(s, stream, rest)
		}
		delete(s.partial, stream)
	}
}

func (p *progress) print(s *step, stream int, line []byte) {
	text := string(bytes.TrimRight(line, "\r"))
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	s.lines = append(s.lines, text)
	if len(s.lines) > linesKept {
		s.lines = slices.Delete(s.lines, 0, len(s.lines)-linesKept)
	}
	name := "stdout"
	if stream == 2 {
		name = "stderr"
	}
	p.line(s, name, text)
}

func (p *progress) line(s *step, stream, text string) {
	p.log(stream, fmt.Sprintf("#%d %s", s.number, text))
}

// failedStep returns the step that made the build fail, nil if none did.
func (p *progress) failedStep() *step {
	var found *step
	for _, s := range p.steps {
		if s.failed && (found == nil || s.number < found.number) {
			found = s
		}
	}
	return found
}
