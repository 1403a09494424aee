package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"slipway/api"
	"slipway/api/client"
)

// watchDeployment follows a deployment to its end; "" is the newest. One that did not succeed
// is an error with its evidence. A rack that goes away and comes back does not end it.
func (s *shell) watchDeployment(ctx context.Context, rack *client.Client, app api.AppName, id string, idOnly bool) error {
	board := s.newBoard()
	var last api.DeploymentUpdate
	err := s.persist(ctx, false, func(heard func()) error {
		err := rack.WatchDeployment(ctx, app, id, func(u api.DeploymentUpdate) error {
			heard()
			last, id = u, string(u.Deployment.ID)
			board.show(u)
			return nil
		})
		if err == nil && !last.Deployment.Status.Ended() {
			return api.Errorf(api.CodeUnavailable, "the rack ended the stream of deployment %s", id)
		}
		return err
	})
	if ctx.Err() != nil {
		s.goesOn("deployment", "deploy --attach", app)
		return ctx.Err()
	}
	if err != nil && id == "" {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w; the deployment goes on, follow it with: slipway deploy --attach -a %s", err, app)
	}
	if last.Deployment.Status != api.DeploySucceeded {
		return s.deploymentFailed(ctx, last)
	}
	if idOnly {
		return s.answer(string(last.Deployment.Release))
	}
	return s.print(last.Deployment, func() error { return s.live(last) })
}

// goesOn tells somebody who leaves that the rack does not, and how to come back.
func (s *shell) goesOn(what, command string, app api.AppName) {
	fmt.Fprintf(s.err, "The %s goes on; follow it with: slipway %s -a %s\n", what, command, app)
}

// deploymentFailed tells what was left of a deployment that did not succeed.
func (s *shell) deploymentFailed(ctx context.Context, u api.DeploymentUpdate) error {
	err := &exitError{exitRolledBack, outcome(u)}
	if s.json {
		doc := struct {
			api.Deployment
			failed
		}{u.Deployment, failed{s.problem(ctx, err)}}
		if err := s.document(doc); err != nil {
			return err
		}
	}
	s.evidence(s.err, u.Deployment.Failure)
	return err
}

// live tells where the services of a deployment that succeeded answer.
func (s *shell) live(u api.DeploymentUpdate) error {
	for _, service := range u.Services {
		text := fmt.Sprintf("%s v%d is live (%d/%d, %s)", service.Name, u.Release.Number, service.Ready, service.Count, took(lasted(u.Deployment)))
		if service.URL != "" {
			text += " " + service.URL
		}
		if err := s.answer(text); err != nil {
			return err
		}
	}
	return nil
}

// The patience with a rack that does not answer while something of it is followed.
const (
	persistMax   = time.Minute
	persistPause = 500 * time.Millisecond
)

// persist follows something of the rack: while the rack is out of reach, as it is when its
// server starts again, it tries again. known says that the rack has answered before; until it
// has, the first failure is the end of it.
func (s *shell) persist(ctx context.Context, known bool, follow func(heard func()) error) error {
	var lost time.Time // when the rack went out of reach; zero while it is not
	for {
		began := s.now()
		err := follow(func() { known, lost = true, time.Time{} })
		if s.now().Sub(began) > persistMax {
			lost = time.Time{} // it was there, with nothing to say
		}
		if api.CodeOf(err) != api.CodeUnavailable || ctx.Err() != nil || !known {
			return err
		}
		if lost.IsZero() {
			lost = s.now()
			fmt.Fprintf(s.err, "%s; trying again\n", oneLine(err.Error()))
		}
		if s.now().Sub(lost) > persistMax {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(persistPause):
		}
	}
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
