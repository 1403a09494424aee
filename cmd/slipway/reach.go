package main

import (
	"context"
	"fmt"
	"time"

	"slipway/api"
	"slipway/api/client"
)

// The patience with services that are to reach what was asked of them.
const (
	reachEvery  = 200 * time.Millisecond
	roomMax     = 5 * time.Second // for a copy that has no room
	reachMax    = 5 * time.Minute
	reachedLast = "it goes on all the same; see: slipway why %s -a %s"
)

// reach waits until services have as many ready copies as they should have and no others; old
// are processes that must have ended. "" is all services of the app.
func (s *shell) reach(ctx context.Context, rack *client.Client, app api.AppName, only api.ServiceName, old map[api.ProcessID]bool) error {
	tick := time.NewTicker(reachEvery)
	defer tick.Stop()
	began, waits := s.now(), map[api.ServiceName]time.Time{}
	for {
		missing, err := s.missing(ctx, rack, app, only, old)
		if err != nil || missing == nil {
			return err
		}
		if missing.Waiting == "" {
			clear(waits)
		} else if waits[missing.Name].IsZero() {
			waits[missing.Name] = s.now()
		}
		then := fmt.Sprintf(reachedLast, missing.Name, app)
		switch since := waits[missing.Name]; {
		case !since.IsZero() && s.now().Sub(since) > roomMax:
			return api.Errorf(api.CodeConflict, "%s: %d of %d ready: %s; %s", missing.Name, missing.Ready, missing.Count, missing.Waiting, then)
		case s.now().Sub(began) > reachMax:
			return fmt.Errorf("%s: %d of %d ready after %s; %s", missing.Name, missing.Ready, missing.Count, reachMax, then)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// missing returns a service that is not yet as it should be, or nil.
func (s *shell) missing(ctx context.Context, rack *client.Client, app api.AppName, only api.ServiceName, old map[api.ProcessID]bool) (*api.ServiceInfo, error) {
	services, err := rack.Services(ctx, app)
	if err != nil {
		return nil, err
	}
	processes, err := rack.Processes(ctx, client.ProcessFilter{App: app, Service: only})
	if err != nil {
		return nil, err
	}
	live, stays := map[api.ServiceName]int{}, map[api.ServiceName]bool{}
	for _, p := range processes {
		if p.Kind == api.KindService {
			live[p.Service]++
			stays[p.Service] = stays[p.Service] || old[p.ID]
		}
	}
	for i, v := range services {
		if only != "" && v.Name != only {
			continue
		}
		if stays[v.Name] || v.Ready != v.Count || live[v.Name] != v.Count {
			return &services[i], nil
		}
	}
	return nil, nil
}

// copies returns the live copies of a service; "" is all services of the app.
func (s *shell) copies(ctx context.Context, rack *client.Client, app api.AppName, service api.ServiceName) (map[api.ProcessID]bool, error) {
	processes, err := rack.Processes(ctx, client.ProcessFilter{App: app, Service: service})
	live := map[api.ProcessID]bool{}
	for _, p := range processes {
		if p.Kind == api.KindService {
			live[p.ID] = true
		}
	}
	return live, err
}

// service describes one service of an app.
func (s *shell) service(ctx context.Context, rack *client.Client, app api.AppName, name api.ServiceName) (api.ServiceInfo, error) {
	services, err := rack.Services(ctx, app)
	if err != nil {
		return api.ServiceInfo{}, err
	}
	var known []string
	for _, v := range services {
		if v.Name == name {
			return v, nil
		}
		known = append(known, string(v.Name))
	}
	return api.ServiceInfo{}, api.NotFoundSee("service", string(name), known, "slipway services -a "+string(app))
}
