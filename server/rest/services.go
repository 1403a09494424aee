package rest

import (
	"slipway/api"
	"slipway/api/client"
)

func serviceRoutes() []route {
	return []route{
		{
			method: "GET", path: "/apps/{app}/services", summary: "List services", right: rightRead, calls: []string{"ListServices"},
			answer: []service{}, serve: func(c *call) error {
				list, err := c.rack.Services(c, c.app())
				return c.json(all(list, serviceOf), err)
			},
		},
		{
			method: "PUT", path: "/apps/{app}/services/{service}", summary: "Scale a service", right: rightDeploy, calls: []string{"Scale"},
			params: []param{
				{name: "count", in: inForm, kind: kindNumber, most: 10_000, doc: "number of processes"},
				{name: "cpu", in: inForm, kind: kindNumber, least: 1, most: 1_000_000, doc: "1000 is one core"},
				{name: "memory", in: inForm, kind: kindNumber, least: 1, most: 64 << 20, doc: "MB"},
				{name: "gpu", in: inForm, missing: true, doc: "GPUs are asked for in the manifest (scale.gpu)"},
				{name: "gpu-vendor", in: inForm, missing: true, doc: "GPUs are asked for in the manifest (scale.gpu)"},
				{name: "min", in: inForm, missing: true, doc: "bounds of autoscaling stand in the manifest (scale.count)"},
				{name: "max", in: inForm, missing: true, doc: "bounds of autoscaling stand in the manifest (scale.count)"},
			},
			serve: scaleService,
		},
		{
			method: "POST", path: "/apps/{app}/services/{service}/restart", summary: "Replace the processes of a service", right: rightDeploy, calls: []string{"Restart"},
			serve: func(c *call) error { return c.ok(c.rack.Restart(c, c.app(), c.service())) },
		},
	}
}

// service returns the service that the path names.
func (c *call) service() api.ServiceName { return api.ServiceName(c.text("service")) }

func scaleService(c *call) error {
	var s client.Scale
	if count, ok := arg[int](c, "count"); ok {
		s.Count = &count
	}
	if n, ok := arg[int](c, "cpu"); ok {
		cpu := api.MilliCPU(n)
		s.CPU = &cpu
	}
	if n, ok := arg[int](c, "memory"); ok {
		memory := api.Bytes(n) * api.MiB
		s.Memory = &memory
	}
	_, err := c.rack.Scale(c, c.app(), c.service(), s)
	return c.ok(err)
}
