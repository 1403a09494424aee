package rest

import (
	"slipway/api"
)

func appRoutes() []route {
	return []route{
		{
			method: "GET", path: "/apps", summary: "List apps", right: rightRead, calls: []string{"ListApps"},
			answer: []app{}, serve: listApps,
		},
		{
			method: "POST", path: "/apps", summary: "Create an app", right: rightDeploy, calls: []string{"CreateApp"},
			params: []param{
				{name: "name", in: inForm, required: true, doc: "name of the app"},
				{name: "generation", in: inForm, doc: "of the manifest: 2 or 3, which makes no difference here"},
			},
			answer: app{}, serve: createApp,
		},
		{
			method: "GET", path: "/apps/{app}", summary: "Describe an app", right: rightRead, calls: []string{"GetApp"},
			answer: app{}, serve: func(c *call) error {
				a, err := c.rack.App(c, c.app())
				return c.json(appOf(a), err)
			},
		},
		{
			method: "PUT", path: "/apps/{app}", summary: "Lock or unlock an app", right: rightAdmin, calls: []string{"LockApp"},
			params: []param{
				{name: "lock", in: inForm, kind: kindBool, required: true, doc: "a locked app cannot be deleted"},
				{name: "parameters", in: inForm, missing: true, doc: "apps have no parameters; what they chose in Convox stands in the manifest"},
			},
			serve: func(c *call) error { return c.ok(c.rack.LockApp(c, c.app(), c.flag("lock", false))) },
		},
		{
			method: "DELETE", path: "/apps/{app}", summary: "Delete an app", right: rightAdmin, calls: []string{"DeleteApp"},
			serve: func(c *call) error { return c.ok(c.rack.DeleteApp(c, c.app())) },
		},
		{
			method: "POST", path: "/apps/{app}/cancel", summary: "Cancel the deployment in progress", right: rightDeploy, calls: []string{"CancelDeployment"},
			serve: func(c *call) error {
				_, err := c.rack.CancelDeployment(c, c.app())
				return c.ok(err)
			},
		},
		{
			// Clients ask for them to export an app.
			method: "GET", path: "/apps/{app}/resources", summary: "List what backing services the rack runs for the app: none yet", right: rightRead, calls: []string{"GetApp"},
			answer: []struct{}{}, serve: func(c *call) error {
				_, err := c.rack.App(c, c.app())
				return c.json([]struct{}{}, err)
			},
		},
	}
}

func listApps(c *call) error {
	apps, err := c.rack.Apps(c)
	return c.json(all(apps, appOf), err)
}

func createApp(c *call) error {
	a, err := c.rack.CreateApp(c, api.AppName(c.text("name")))
	return c.json(appOf(a), err)
}
