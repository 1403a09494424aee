package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"slipway/api"
	"slipway/api/client"
)

// shell is what the verbs share: the streams, the environment and the flags that all have.
type shell struct {
	in       io.Reader
	out, err io.Writer
	env      map[string]string
	now      func() time.Time

	appFlag, rackFlag string
	reason            string
	json              bool
	// quiet moves progress to standard error, for verbs that print one ID.
	quiet bool
	// told: a document was written, so that an error needs none.
	told bool

	rack *client.Client
	// name is what the rack is remembered by, "" for one that is not; ca is the authority that it is
	// remembered with.
	name, ca string
}

func newShell(in io.Reader, out, err io.Writer, env []string) *shell {
	s := &shell{in: in, out: out, err: err, env: map[string]string{}, now: time.Now}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		s.env[name] = value
	}
	return s
}

func (s *shell) close() {
	if s.rack == nil {
		return
	}
	_ = s.rack.Close() // the answers have been printed
	if err := s.followAuthority(); err != nil {
		fmt.Fprintf(s.err, "WARNING: the rack has a new authority, which is not remembered: %s\n", clean(err.Error()))
	}
}

// followAuthority remembers whom the rack is trusted by now, if that is somebody else than when the
// command began: the rack's authority is being replaced.
func (s *shell) followAuthority() error {
	ca := s.rack.CA()
	if s.name == "" || ca == s.ca {
		return nil
	}
	conf, err := s.loadConfig()
	if err != nil {
		return err
	}
	target, ok := conf.Racks[s.name]
	if !ok || target.CA != s.ca { // somebody else was quicker
		return nil
	}
	target.CA = ca
	conf.Racks[s.name] = target
	return s.saveConfig(conf)
}

// connect returns the client of the chosen rack.
func (s *shell) connect(ctx context.Context) (*client.Client, error) {
	if s.rack != nil {
		return s.rack, nil
	}
	conf, err := s.loadConfig()
	if err != nil {
		return nil, err
	}
	name, target, err := s.chooseRack(conf)
	if err != nil {
		return nil, err
	}
	s.name, s.ca = name, target.CA
	s.rack, err = client.Dial(ctx, target)
	return s.rack, err
}

// appIn returns the name of the app that belongs to a directory.
func (s *shell) appIn(dir string) (api.AppName, error) {
	name := s.appFlag
	for _, file := range []string{".slipway/app", ".convox/app"} {
		if name != "" {
			break
		}
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", usage("read the name of the app: %w", err)
		}
		name = strings.TrimSpace(string(text))
	}
	if name == "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", usage("find the name of the app: %w; give it with -a", err)
		}
		name = strings.ToLower(filepath.Base(abs))
	}
	if err := api.CheckName("app", name); err != nil {
		return "", usage("%w; name the app with -a", err)
	}
	return api.AppName(name), nil
}

// open returns the client and the app of a verb that needs both.
func (s *shell) open(ctx context.Context) (*client.Client, api.AppName, error) {
	return s.openIn(ctx, ".")
}

// openIn is open for a verb that works in a directory.
func (s *shell) openIn(ctx context.Context, dir string) (*client.Client, api.AppName, error) {
	app, err := s.appIn(dir)
	if err != nil {
		return nil, "", err
	}
	rack, err := s.connect(ctx)
	return rack, app, err
}

// readInput reads standard input to its end, at most limit bytes.
func (s *shell) readInput(ctx context.Context, limit int64) (string, error) {
	var text strings.Builder
	if err := s.copyInput(ctx, &text, limit+1); err != nil {
		return "", err
	}
	if int64(text.Len()) > limit {
		return "", usage("standard input is longer than %s", api.Bytes(limit))
	}
	return text.String(), nil
}

// copyInput copies standard input up to its end or a limit. An interrupt ends the wait for it; the
// read itself is left behind.
func (s *shell) copyInput(ctx context.Context, to io.Writer, limit int64) error {
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(to, io.LimitReader(s.in, limit))
		ended <- err
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		return nil
	}
}

// terminal returns the file of a stream that is a terminal, or nil.
func terminal(stream any) *os.File {
	if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}
