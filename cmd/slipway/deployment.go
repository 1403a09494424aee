package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"slipway/api"
	"slipway/api/client"
)

// watchDeployment follows a deployment to its end; "" is the newest. One that did not succeed
// is an error with its evidence.
func (s *shell) watchDeployment(ctx context.Context, rack *client.Client, app api.AppName, id string, idOnly bool) error {
	board := s.newBoard()
	var last api.DeploymentUpdate
	err := rack.WatchDeployment(ctx, app, id, func(u api.DeploymentUpdate) error {
		last = u
		board.show(u)
		return nil
	})
	if ctx.Err() != nil {
		s.say("The deployment goes on; follow it with: slipway deploy --attach -a %s", app)
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%w; the deployment goes on, follow it with: slipway deploy --attach -a %s", err, app)
	}
	d := last.Deployment
	if !d.Status.Ended() {
		return api.Errorf(api.CodeUnavailable, "the rack ended the stream of deployment %s; follow it with: slipway deploy --attach -a %s", d.ID, app)
	}
	if d.Status != api.DeploySucceeded {
		if s.json {
			if err := s.document(d); err != nil {
				return err
			}
		}
		s.evidence(s.err, d.Failure)
		return &exitError{exitRolledBack, outcome(last)}
	}
	if idOnly {
		return s.answer(string(d.Release))
	}
	return s.print(d, func() error {
		for _, service := range last.Services {
			text := fmt.Sprintf("%s v%d is live (%d/%d, %s)", service.Name, last.Release.Number, service.Ready, service.Count, took(lasted(d)))
			if service.URL != "" {
				text += " " + service.URL
			}
			if err := s.answer(text); err != nil {
				return err
			}
		}
		return nil
	})
}

func lasted(d api.Deployment) time.Duration {
	if d.Receipt != nil && d.Receipt.Took > 0 {
		return d.Receipt.Took
	}
	return d.Ended.Sub(d.Created)
}

// outcome is the error of a deployment that did not succeed.
func outcome(u api.DeploymentUpdate) error {
	d := u.Deployment
	why := d.Cause
	if d.Failure != nil {
		why = fmt.Sprintf("%s: %s", d.Failure.Service, d.Failure.Reason)
	}
	text := fmt.Sprintf("deployment %s of release %s (v%d) %s", d.ID, d.Release, u.Release.Number, d.Status)
	if why != "" {
		text += ": " + why
	}
	switch {
	case d.Status == api.DeploySuperseded:
	case d.Previous != "":
		text += fmt.Sprintf("; release %s is in force again", d.Previous)
	default:
		text += "; there is no release to go back to"
	}
	return errors.New(text)
}

// evidence prints what a failed process left behind.
func (s *shell) evidence(w io.Writer, f *api.Failure) {
	if f == nil {
		return
	}
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-9s %s\n", name, clean(text))
		}
	}
	line("service", strings.TrimSpace(fmt.Sprintf("%s %s", f.Service, f.Process)))
	line("reason", f.Reason)
	if p := f.Probe; p != nil {
		answer := p.Error
		if p.Status != 0 {
			answer = strings.TrimSpace(fmt.Sprintf("status %d %s", p.Status, p.Error))
		}
		line("probe", fmt.Sprintf("%s %s: %s, %s in a row", p.Kind, p.Target, answer, count(p.Failures, "failure")))
	}
	if f.State == api.StateExited {
		line("exit code", fmt.Sprint(f.ExitCode))
	} else {
		line("state", f.State.String())
	}
	if f.OOM {
		line("memory", "the kernel ended it: it used more than its limit")
	}
	if f.Probe != nil || len(f.Sockets) > 0 {
		line("listening", orElse(strings.Join(f.Sockets, ", "), "on nothing"))
	}
	for i, text := range f.Lines {
		name := ""
		if i == 0 {
			name = "output"
		}
		fmt.Fprintf(&b, "  %-9s | %s\n", name, clean(text))
	}
	_, _ = io.WriteString(w, b.String()) // an error follows, which says more than a closed stream
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// board shows a deployment while it goes on: on a terminal it draws over itself, elsewhere it
// writes a line for every change.
type board struct {
	w     io.Writer
	width int // of the terminal; 0 elsewhere
	drawn int // lines to draw over
	told  map[string]string
}

func (s *shell) newBoard() *board {
	b := &board{w: s.progress(), told: map[string]string{}}
	if f := terminal(b.w); f != nil {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			b.width = width
		}
	}
	return b
}

// show shows an update.
func (b *board) show(u api.DeploymentUpdate) {
	lines := boardLines(u)
	if b.width > 0 {
		b.redraw(lines)
		return
	}
	for _, l := range lines {
		if b.told[l.key] != l.text {
			b.told[l.key] = l.text
			fmt.Fprintln(b.w, l.text)
		}
	}
}

// redraw draws over what was drawn before.
func (b *board) redraw(lines []boardLine) {
	var out strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA\x1b[J", b.drawn)
	}
	for _, l := range lines {
		text := []rune(l.text)
		if len(text) >= b.width {
			text = text[:max(b.width-1, 0)]
		}
		out.WriteString(string(text) + "\n")
	}
	b.drawn = len(lines)
	_, _ = io.WriteString(b.w, out.String()) // progress only
}

type boardLine struct{ key, text string }

// boardLines says how far a deployment is: one line per new process, and one per service that
// waits.
func boardLines(u api.DeploymentUpdate) []boardLine {
	var lines []boardLine
	for _, service := range u.Services {
		if service.Waiting != "" {
			lines = append(lines, boardLine{"service " + string(service.Name), clean(fmt.Sprintf("%s waits: %s", service.Name, service.Waiting))})
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
		lines = append(lines, boardLine{string(p.ID), clean(text)})
	}
	if u.Deployment.Status == api.DeployRollingBack {
		lines = append(lines, boardLine{"deployment", clean("rolling back: " + orElse(u.Deployment.Cause, "the deployment failed"))})
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
