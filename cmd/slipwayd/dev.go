package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"slipway/api"
	"slipway/server"
)

// Ready is what dev writes to <dir>/ready once the rack answers: how to reach it.
type Ready struct {
	Addr     string `json:"addr"`     // of the API
	Registry string `json:"registry"` // of registry and metrics
	CA       string `json:"ca"`       // file
	Token    string `json:"token"`    // file
	HTTP     int    `json:"http"`
	HTTPS    int    `json:"https"`
	Pid      int    `json:"pid"`
}

func devCommand() *cobra.Command {
	var s serverFlags
	var a agentFlags
	cmd := &cobra.Command{
		Use: "dev", Short: "Run a whole rack on this machine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(s.log, s.debug)
			if err != nil {
				return err
			}
			return dev(cmd.Context(), s, a, log)
		},
	}
	s.register(cmd)
	a.register(cmd)
	cmd.Flag("dir").DefValue = ".slipway"
	cmd.Flag("rack").DefValue = "dev"
	for _, name := range []string{"dir", "rack"} {
		if err := cmd.Flags().Set(name, cmd.Flag(name).DefValue); err != nil {
			panic(err) // the flag was registered two lines above
		}
	}
	return cmd
}

// dev runs server and agent in one process, over the same connections as on two machines.
func dev(ctx context.Context, s serverFlags, a agentFlags, log *slog.Logger) error {
	p, err := create(s.dir)
	if err != nil {
		return err
	}
	unlock, err := lock(p)
	if err != nil {
		return err
	}
	defer unlock()
	s.dir, s.bootstrap, s.privileged = p.data("server"), true, a.privileged // and no network: the node chooses
	config := s.config(log)
	config.Alone = true
	srv, err := server.New(ctx, config)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Run(ctx) })
	group.Go(func() error {
		select {
		case <-srv.Ready():
		case <-ctx.Done():
			return nil
		}
		token, err := readToken(p.data("server/" + server.JoinAgentTokenFile))
		if err != nil {
			return err
		}
		ready := Ready{
			Addr: srv.GRPCAddr(), Registry: srv.HTTPAddr(), CA: p.data("server/" + server.TrustFile), Token: p.data("server/" + server.AdminTokenFile),
			HTTP: s.httpPort, HTTPS: s.httpsPort, Pid: os.Getpid(),
		}
		if err := writeReady(p, ready); err != nil {
			return err
		}
		return runAgent(ctx, p, a, joinFlags{servers: []string{srv.GRPCAddr()}, token: token, http: s.httpPort, https: s.httpsPort}, log)
	})
	err = group.Wait()
	return errors.Join(err, removeFile(p.readyFile()))
}

// lock makes sure that one process at a time runs the rack of a directory. The kernel gives
// the lock back when the process ends, however that is.
func lock(p paths) (unlock func(), err error) {
	f, err := os.OpenFile(p.data("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", p.Dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, api.Errorf(api.CodeConflict, "the rack in %s is running already", p.Dir)
	}
	at, err := startTime(os.Getpid())
	if err == nil {
		err = os.WriteFile(p.run("slipwayd.pid"), fmt.Appendf(nil, "%d %d\n", os.Getpid(), at), 0o600)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", p.Dir, err)
	}
	return func() { f.Close() }, nil
}

func writeReady(p paths, r Ready) error {
	doc, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", p.readyFile(), err)
	}
	tmp := p.readyFile() + ".new"
	if err := os.WriteFile(tmp, doc, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", p.readyFile(), err)
	}
	return os.Rename(tmp, p.readyFile())
}

// readReady reads what a running rack wrote.
func readReady(p paths) (Ready, error) {
	var r Ready
	b, err := os.ReadFile(p.readyFile())
	if errors.Is(err, fs.ErrNotExist) {
		return r, api.Errorf(api.CodeUnavailable, "no rack runs in %s; start it with: slipwayd dev --dir %s", p.Dir, p.Dir)
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}
