package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

// completeMax is how long a shell waits for names from the rack.
const completeMax = 2 * time.Second

// named says what the first argument of a verb names.
type named string

const (
	nothingNamed   named = ""
	directoryNames named = "directory"
	appNames       named = "app"
	serviceNames   named = "service"
	processNames   named = "process"
	entryNames     named = "process or service"
	releaseNames   named = "release"
	buildNames     named = "build"
	rackNames      named = "rack"
	objectNames    named = "anything of an app"
	nodeNames      named = "node"
	poolNames      named = "pool"
	tokenNames     named = "token"
	registryNames  named = "registry"
)

// completion completes arguments, each with the names of one kind. A rack that does not answer
// offers nothing: a shell has no place for errors.
func (s *shell) completion(kinds ...named) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		what := nothingNamed
		if len(args) < len(kinds) {
			what = kinds[len(args)]
		}
		switch {
		case what == nothingNamed:
			return nil, cobra.ShellCompDirectiveNoFileComp
		case what == directoryNames:
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		ctx := c.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, completeMax)
		defer cancel()
		found, err := s.find(ctx, what)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// find lists the names of a kind.
func (s *shell) find(ctx context.Context, what named) ([]string, error) {
	switch what {
	case rackNames:
		conf, err := s.loadConfig()
		return conf.names(), err
	case appNames, nodeNames, poolNames, tokenNames, registryNames:
		rack, err := s.connect(ctx)
		switch {
		case err != nil:
			return nil, err
		case what == nodeNames:
			return listed(func(n api.Node) string { return string(n.ID) + "\t" + oneLine(n.Name) })(rack.Nodes(ctx))
		case what == tokenNames:
			return listed(func(t api.Token) string { return t.Name + "\t" + t.Role })(rack.Tokens(ctx))
		case what == registryNames:
			return listed(func(r api.Registry) string { return r.Server + "\t" + oneLine(r.Username) })(rack.Registries(ctx))
		case what == poolNames:
			return listed(func(p api.Pool) string { return string(p.Name) + "\t" + string(p.Strategy) })(rack.Pools(ctx))
		}
		return listed(func(a api.AppInfo) string { return string(a.Name) })(rack.Apps(ctx))
	}
	rack, app, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, list := range map[named][]func(context.Context, *client.Client, api.AppName) ([]string, error){
		serviceNames: {findServices}, processNames: {findProcesses}, releaseNames: {findReleases}, buildNames: {findBuilds},
		entryNames: {findServices, findProcesses}, objectNames: {findServices, findProcesses, findReleases, findBuilds},
	}[what] {
		found, err := list(ctx, rack, app)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func findServices(ctx context.Context, rack *client.Client, app api.AppName) ([]string, error) {
	return listed(func(v api.ServiceInfo) string { return string(v.Name) })(rack.Services(ctx, app))
}

func findProcesses(ctx context.Context, rack *client.Client, app api.AppName) ([]string, error) {
	return listed(func(p api.ProcessInfo) string { return string(p.ID) + "\t" + string(p.Service) + " " + p.Status })(
		rack.Processes(ctx, client.ProcessFilter{App: app}))
}

func findReleases(ctx context.Context, rack *client.Client, app api.AppName) ([]string, error) {
	return listed(func(r api.ReleaseInfo) string { return string(r.ID) + "\t" + oneLine(r.Description) })(rack.Releases(ctx, app))
}

func findBuilds(ctx context.Context, rack *client.Client, app api.AppName) ([]string, error) {
	return listed(func(b api.BuildInfo) string { return string(b.ID) + "\t" + oneLine(b.Description) })(rack.Builds(ctx, app))
}

// listed makes names of nouns. What follows a tab describes the name.
func listed[T any](name func(T) string) func([]T, error) ([]string, error) {
	return func(nouns []T, err error) ([]string, error) {
		all := make([]string, 0, len(nouns))
		for _, n := range nouns {
			all = append(all, name(n))
		}
		return all, err
	}
}
