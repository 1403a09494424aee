package rest

import (
	"slipway/api"
	"slipway/api/client"
)

// envMax bounds the text of an environment, in bytes; the rack's own limit is below it.
const envMax = 256 << 10

// listMax is how many builds or releases are listed by default.
const listMax = 20

func releaseRoutes() []route {
	return []route{
		{
			method: "GET", path: "/apps/{app}/releases", summary: "List releases, newest first", right: rightRead, calls: []string{"ListReleases"},
			params: []param{{name: "limit", in: inQuery, kind: kindNumber, least: 1, most: 10_000, doc: "how many; 20 by default"}},
			answer: []release{}, serve: listReleases,
		},
		{
			method: "POST", path: "/apps/{app}/releases", summary: "Create a release from the newest one, with another environment or build", right: rightDeploy,
			calls: []string{"SetEnv", "GetEnv", "GetRelease", "ListReleases"},
			params: []param{
				{name: "env", in: inForm, most: envMax, doc: "the whole environment, NAME=value, a line each"},
				{name: "build", in: inForm, most: nameMax, doc: "ID of the build; that of the newest release by default"},
				{name: "description", in: inForm, doc: "not used: the release says what changed"},
				{name: "parent-release", in: inForm, most: nameMax, doc: "not used: a release comes from the newest one"},
			},
			answer: release{}, serve: createRelease,
		},
		{
			method: "GET", path: "/apps/{app}/releases/{id}", summary: "Describe a release; its environment is shown to tokens that may deploy", right: rightRead,
			calls: []string{"GetRelease", "GetEnv"}, answer: release{}, serve: func(c *call) error {
				r, err := c.rack.Release(c, c.app(), c.text("id"))
				if err != nil {
					return err
				}
				return c.release(r)
			},
		},
		{
			method: "POST", path: "/apps/{app}/releases/{id}/promote", summary: "Deploy a release", right: rightDeploy, calls: []string{"Promote"},
			params: []param{
				{name: "force", in: inForm, kind: kindBool, doc: "not needed: a newer deployment takes the place of one in progress"},
				{name: "development", in: inForm, kind: kindBool, doc: "not used"},
				{name: "idle", in: inForm, kind: kindBool, doc: "not used"},
				{name: "min", in: inForm, kind: kindNumber, most: 100, doc: "not used: deployment.minimum of the manifest counts"},
				{name: "max", in: inForm, kind: kindNumber, most: 10_000, doc: "not used: deployment.maximum of the manifest counts"},
				{name: "timeout", in: inForm, kind: kindNumber, doc: "not used: a deployment that does not come on fails by itself"},
			},
			serve: func(c *call) error {
				_, err := c.rack.Promote(c, c.app(), c.text("id"))
				return c.ok(err)
			},
		},
	}
}

func listReleases(c *call) error {
	list, err := c.rack.Releases(c, c.app())
	list = list[:min(len(list), c.number("limit", listMax))]
	return c.json(all(list, func(r api.ReleaseInfo) release { return releaseOf(c.app(), r) }), err)
}

// release answers with a release and its environment, as far as the caller may see it.
func (c *call) release(r api.ReleaseInfo) error {
	out := releaseOf(c.app(), r)
	env, _, err := c.rack.Env(c, c.app(), string(r.ID))
	if err != nil && api.CodeOf(err) != api.CodeDenied {
		return err
	}
	out.Env = envText(env)
	return c.json(out, nil)
}

// createRelease sets the environment as a whole, or the build: rolling back is both, from an older
// release. A release with the build and the environment of the newest one is the newest one.
func createRelease(c *call) error {
	change := client.EnvChange{Build: api.BuildID(c.text("build"))}
	if text, given := arg[string](c, "env"); given {
		env, err := parseEnv(text)
		if err != nil {
			return err
		}
		change.Set, change.Replace = env, true
	}
	r, err := c.rack.SetEnv(c, c.app(), change)
	if err != nil {
		return err
	}
	return c.release(r)
}
