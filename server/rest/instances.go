package rest

import (
	"slipway/api"
	"slipway/api/client"
)

func instanceRoutes() []route {
	return []route{
		{
			method: "GET", path: "/instances", summary: "List nodes", right: rightRead, calls: []string{"ListNodes", "GetNode"},
			answer: []instance{}, serve: listInstances,
		},
		{
			method: "DELETE", path: "/instances/{id}", summary: "Drain a node: its processes move to others, and no new ones come", right: rightAdmin,
			calls: []string{"UpdateNode"}, serve: func(c *call) error {
				yes := true
				_, err := c.rack.UpdateNode(c, c.text("id"), client.NodeChange{Draining: &yes})
				return c.ok(err)
			},
		},
	}
}

// listInstances describes nodes one by one: what is reserved of each is not in their list.
func listInstances(c *call) error {
	nodes, err := c.rack.Nodes(c)
	if err != nil {
		return err
	}
	out := []instance{}
	for i := range nodes {
		info, err := c.rack.Node(c, string(nodes[i].ID))
		if api.CodeOf(err) == api.CodeNotFound {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		out = append(out, instanceOf(info))
	}
	return c.json(out, nil)
}
