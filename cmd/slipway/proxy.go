package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) proxyCommand() *cobra.Command {
	return s.verb(verb{
		use: "proxy [LOCAL:]PROCESS|SERVICE[.APP]:PORT...", short: "Reach ports of processes from this machine",
		long: "Listen on this machine and carry each connection to a TCP port of a process, as programs in its container reach\n" +
			"it: ports that nothing outside the app can reach are reached too. A service stands for any ready process of it,\n" +
			"chosen anew for each connection. The local port is the same unless it is given; 0 is any that is free. Lasts until\n" +
			"it is interrupted.",
		example: "  slipway proxy web:3000\n  slipway proxy 15432:db:5432 0:web:3000\n  slipway proxy web.shop:3000", args: between(1, -1),
		run: s.proxy,
	})
}

// forward is a port of a process, and where it is reached on this machine.
type forward struct {
	Listen string       `json:"listen"`
	Target string       `json:"target"` // as it was typed
	App    api.AppName  `json:"app"`
	place  client.Place // in App
	port   uint16
	local  uint16
}

func (s *shell) proxy(ctx context.Context, args []string) error {
	var all []*forward
	for _, arg := range args {
		f, err := parseForward(arg)
		if err != nil {
			return err
		}
		if f.App == "" {
			if f.App, err = s.appIn("."); err != nil {
				return err
			}
		}
		all = append(all, f)
	}
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	for _, f := range all {
		if err := checkPlace(ctx, rack, f.App, f.place); err != nil {
			return err
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(f.local))))
		if err != nil {
			return fmt.Errorf("listen for %s: %w; name another port as in %d:%s", f.Target, err, f.local+1, f.Target)
		}
		listeners = append(listeners, l)
		f.Listen = l.Addr().String()
	}
	if err := s.print(all, func() error { return s.showForwards(all) }); err != nil {
		return err
	}
	var serving sync.WaitGroup
	for i, f := range all {
		serving.Go(func() { s.serveForward(ctx, rack, f, listeners[i]) })
	}
	<-ctx.Done()
	for _, l := range listeners {
		l.Close()
	}
	serving.Wait()
	return nil
}

// checkPlace reports that a place names neither a service nor a process of an app.
func checkPlace(ctx context.Context, rack *client.Client, app api.AppName, at client.Place) error {
	services, err := rack.Services(ctx, app)
	if err != nil {
		return err
	}
	var names []string
	for _, one := range services {
		if one.Name == at.Service {
			return nil
		}
		names = append(names, string(one.Name))
	}
	if _, err := rack.Process(ctx, app, at.Process); api.CodeOf(err) == api.CodeNotFound {
		return api.NotFoundSee("service or process", string(at.Service), names, "slipway ps -a "+string(app))
	} else if err != nil {
		return err
	}
	return nil
}

func (s *shell) showForwards(all []*forward) error {
	for _, f := range all {
		s.say("Forwarding %s to %s", f.Listen, f.Target)
	}
	return nil
}

// serveForward carries connections until the listener is closed, and those that are open then to
// their end, which comes with ctx.
func (s *shell) serveForward(ctx context.Context, rack *client.Client, f *forward, l net.Listener) {
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		open.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			if err := rack.Proxy(ctx, f.App, f.place, f.port, conn, conn); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				fmt.Fprintf(s.err, "%s: %s\n", f.Target, oneLine(err.Error()))
			}
		})
	}
}

// parseForward reads "[local:]name[.app]:port".
func parseForward(arg string) (*forward, error) {
	parts := strings.Split(arg, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, usage("%q is not of the form [LOCAL:]PROCESS|SERVICE[.APP]:PORT", arg)
	}
	target, err := port(parts[len(parts)-1], 1)
	if err != nil {
		return nil, err
	}
	f := &forward{Target: arg, port: target, local: target}
	name := parts[0]
	if len(parts) == 3 {
		if f.local, err = port(parts[0], 0); err != nil {
			return nil, err
		}
		name, f.Target = parts[1], parts[1]+":"+parts[2]
	}
	// A name within the rack goes on behind the app: web.shop.rack.local.
	name, app, _ := strings.Cut(name, ".")
	app, _, _ = strings.Cut(app, ".")
	if app != "" {
		if err := api.CheckName("app", app); err != nil {
			return nil, usage("%w", err)
		}
	}
	if name == "" {
		return nil, usage("%q names no process and no service", arg)
	}
	f.App, f.place = api.AppName(app), client.Place{Process: api.ProcessID(name), Service: api.ServiceName(name)}
	return f, nil
}

func port(text string, least uint64) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n < least {
		return 0, usage("port %q is not one of %d to 65535", text, least)
	}
	return uint16(n), nil
}
