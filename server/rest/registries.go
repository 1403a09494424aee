package rest

import "slipway/api"

// registry is a login as clients of Convox read it. The password is told to nobody.
type registry struct {
	Server   string `json:"server"`
	Username string `json:"username"`
	Password string `json:"password"` // always empty
}

func registryOf(r api.Registry) registry { return registry{Server: r.Server, Username: r.Username} }

func registryRoutes() []route {
	return []route{
		{
			method: "GET", path: "/registries", summary: "List the registries that builds pull from with a login, without the passwords", right: rightRead,
			calls: []string{"ListRegistries"}, answer: []registry{}, serve: func(c *call) error {
				list, err := c.rack.Registries(c)
				return c.json(all(list, registryOf), err)
			},
		},
		{
			method: "POST", path: "/registries", summary: "Give builds the login of a registry, in place of the one before", right: rightAdmin, calls: []string{"PutRegistry"},
			params: []param{
				{name: "server", in: inForm, required: true, most: nameMax, doc: "host of the registry"},
				{name: "username", in: inForm, required: true, most: nameMax, doc: "user of the registry"},
				{name: "password", in: inForm, required: true, most: 16 << 10, doc: "password or token"},
			},
			answer: registry{}, serve: func(c *call) error {
				r, err := c.rack.PutRegistry(c, api.RegistryLogin{Server: c.text("server"), Username: c.text("username"), Password: c.text("password")})
				return c.json(registryOf(r), err)
			},
		},
		{
			method: "DELETE", path: "/registries/{server...}", summary: "Forget the login of a registry", right: rightAdmin, calls: []string{"RemoveRegistry"},
			serve: func(c *call) error { return c.ok(c.rack.RemoveRegistry(c, c.text("server"))) },
		},
	}
}
