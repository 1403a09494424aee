package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"

	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"

	"slipway/api"
)

// diskFull is what is said when it is. Room has been made as far as the cache goes.
const diskFull = "the disk of the builder is full; free space on the node, then build again"

// linesKept is how many of a failed step's last lines go into the error.
const linesKept = 20

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		strings.Contains(err.Error(), "no space left on device") || strings.Contains(err.Error(), "disk quota exceeded")
}

var (
	deniedText   = regexp.MustCompile(`source metadata for (\S+): .*(?:40[13] |authorization failed|access denied|failed to authorize|supported auth scheme)`)
	notFoundText = regexp.MustCompile(`source metadata for (\S+): .*not found`)
	killedText   = regexp.MustCompile(`signal: killed|^Killed$|Out of memory`)
	fullText     = regexp.MustCompile(`No space left on device|no space left on device`)
	exitText     = regexp.MustCompile(`exit code: (\d+)`)
)

// failure turns the engine's error into one that a user can act on. what names the image that
// was being built.
func failure(ctx context.Context, what string, err error, p *progress) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: cancelled: %w", what, context.Cause(ctx))
	}
	text := err.Error()
	switch {
	case isDiskFull(err):
		return api.Errorf(api.CodeExhausted, "%s: %s%s: %w", what, place(err), diskFull, err)
	case strings.Contains(text, "disk of the rack's registry"):
		return api.Errorf(api.CodeExhausted, "%s: the disk of the rack's registry is full; remove old releases or add a disk: %w", what, err)
	case strings.Contains(text, "source denied by policy"):
		return api.Errorf(api.CodeDenied, "%s: %sthe image belongs to another app of the rack; build on an image of library/ or of a registry: %w", what, place(err), err)
	}
	if step := p.failedStep(); step != nil && len(errdefs.Sources(err)) > 0 && exitText.MatchString(text) {
		return stepFailure(what, err, step)
	}
	if m := deniedText.FindStringSubmatch(text); m != nil {
		server, _, _ := strings.Cut(m[1], "/")
		return api.Errorf(api.CodeInvalid, "%s: %sthe registry of image %s refuses it: it does not exist, or needs a login, or the one that the rack has is wrong; %s: %w", what, place(err), m[1], giveLogin(server), err)
	}
	if m := notFoundText.FindStringSubmatch(text); m != nil {
		return api.Errorf(api.CodeInvalid, "%s: %sthe image %s was not found in the rack's registry, nor where its name leads, which may be out of reach: %w", what, place(err), m[1], err)
	}
	if strings.Contains(text, "failed to resolve source metadata") {
		return api.Errorf(api.CodeUnavailable, "%s: %s%w", what, place(err), err)
	}
	if engineLost(err) {
		return api.Errorf(api.CodeUnavailable, "%s: the build engine ended; run the build again: %w", what, err)
	}
	return api.Errorf(api.CodeInvalid, "%s: %s%w", what, place(err), err)
}

// engineLost reports whether the connection to the engine broke.
func engineLost(err error) bool {
	text := err.Error()
	return strings.Contains(text, "code = Unavailable") || strings.Contains(text, "error reading from server")
}

// stepFailure is the error for a RUN that ended with an exit code.
func stepFailure(what string, err error, step *step) error {
	code := exitText.FindStringSubmatch(err.Error())[1]
	if e, ok := errors.AsType[*gateway.ExitError](err); ok {
		code = fmt.Sprint(e.ExitCode)
	}
	why, kind := "ended with exit code "+code, api.CodeInvalid
	if slices.ContainsFunc(step.lines, fullText.MatchString) {
		why, kind = why+": "+diskFull, api.CodeExhausted
	} else if code == "137" {
		why = "was killed (exit code 137), most likely because the build ran out of memory"
	} else if slices.ContainsFunc(step.lines, func(l string) bool { return killedText.MatchString(l) }) {
		why += ": a program it ran was killed, most likely because the build ran out of memory"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s%s %s", what, place(err), step.name, why)
	for _, line := range step.lines {
		b.WriteString("\n  " + line)
	}
	return &api.Error{Code: kind, Message: b.String(), Err: err}
}

// place returns "Dockerfile line 7 (RUN go build): " for an error that has one, or "".
func place(err error) string {
	for _, s := range errdefs.Sources(err) {
		if s.Info == nil || len(s.Ranges) == 0 || s.Ranges[0].Start == nil {
			continue
		}
		n := int(s.Ranges[0].Start.Line)
		lines := bytes.Split(s.Info.Data, []byte("\n"))
		if n < 1 || n > len(lines) {
			continue
		}
		return fmt.Sprintf("%s line %d (%.200s): ", s.Info.Filename, n, bytes.TrimSpace(lines[n-1]))
	}
	return ""
}
