package rest

import (
	"fmt"
	"strings"
	"time"

	"slipway/api"
	"slipway/api/client"
)

func systemRoutes() []route {
	return []route{
		{
			method: "GET", path: "/auth", summary: "Check the token", right: rightRead, calls: []string{"GetRack"},
			serve: func(c *call) error {
				_, err := c.rack.Rack(c)
				return c.ok(err)
			},
		},
		{
			method: "GET", path: "/racks", summary: "Name the rack", right: rightRead, calls: []string{"GetRack"}, answer: []rackName{},
			serve: func(c *call) error {
				rack, err := c.rack.Rack(c)
				return c.json([]rackName{{rack.Name, rack.Status}}, err)
			},
		},
		{
			method: "GET", path: "/system", summary: "Describe the rack", right: rightRead, calls: []string{"GetRack"}, answer: system{},
			serve: describeSystem,
		},
		{
			method: "GET", path: "/system/capacity", summary: "Tell what the nodes have and what is reserved", right: rightRead, calls: []string{"GetRack"},
			answer: capacity{}, serve: func(c *call) error {
				r, err := c.rack.Rack(c)
				return c.json(capacity{
					ClusterCPU: int64(r.Capacity.CPU), ClusterMemory: int64(r.Capacity.Memory / api.MiB),
					ProcessCount: int64(r.Processes), ProcessCPU: int64(r.Used.CPU), ProcessMemory: int64(r.Used.Memory / api.MiB),
				}, err)
			},
		},
		{
			method: "GET", path: "/system/processes", summary: "List the processes of all apps", right: rightRead, calls: []string{"ListProcesses"},
			params: []param{{name: "all", in: inQuery, kind: kindBool, doc: "not used: the rack itself runs in no processes of its own"}},
			answer: []process{}, serve: func(c *call) error {
				list, err := c.rack.Processes(c, client.ProcessFilter{})
				return c.json(all(list, processOf), err)
			},
		},
		{
			method: socketMethod, path: "/system/logs", summary: "Follow what happens in the rack, a line each", right: rightRead, calls: []string{"Events"},
			params: logParams, serve: func(c *call) error {
				q := client.EventQuery{Since: c.since(), Past: !c.flag("Follow", true)}
				return c.rack.Events(c, q, c.eventLine)
			},
		},
		{
			method: "POST", path: "/system/jwt/token", summary: "Make a token that expires", right: rightAdmin, calls: []string{"CreateToken"},
			params: []param{
				{name: "role", in: inForm, required: true, doc: "read, write or admin; r, rw and rwa say the same"},
				{name: "durationInHour", in: inForm, kind: kindNumber, required: true, least: 1, most: 24 * 3660, doc: "how long the token is good, in hours"},
			},
			answer: jwt{}, serve: createToken,
		},
	}
}

func describeSystem(c *call) error {
	r, err := c.rack.Rack(c)
	return c.json(system{
		Count: r.Nodes, Domain: r.Domain, Name: r.Name, Provider: "slipway", RackDomain: c.r.Host, Status: rackStatus(r.Status), Version: version,
		Parameters: map[string]string{}, Outputs: map[string]string{
			"Version": r.Version, "Servers": fmt.Sprint(r.Servers), "HTTPPort": fmt.Sprint(r.HTTPPort), "HTTPSPort": fmt.Sprint(r.HTTPSPort), "Status": r.Status,
		},
	}, err)
}

// rackStatus translates the status of a rack. Clients wait for "running"; the outputs tell more.
func rackStatus(s string) string {
	if s == "degraded" {
		return "running"
	}
	return s
}

func createToken(c *call) error {
	roles := map[string]string{
		"read": api.RoleViewer, "r": api.RoleViewer, "write": api.RoleDeployer, "rw": api.RoleDeployer, "admin": api.RoleAdmin, "rwa": api.RoleAdmin,
	}
	role, ok := roles[c.text("role")]
	if !ok {
		return api.Errorf(api.CodeInvalid, "parameter role: %q is none of read, write and admin", clip(c.text("role")))
	}
	life := time.Duration(c.number("durationInHour", 0)) * time.Hour
	name := fmt.Sprintf("jwt-%s-%s", c.text("role"), c.id)
	_, secret, err := c.rack.CreateToken(c, client.NewToken{Name: name, Role: role, Life: life})
	return c.json(jwt{secret}, err)
}

// Where events come from, as lines of a log say it: in an app's beside what its services say, in the
// rack's as what its only service says, which scripts look for.
const (
	ofSystem = "system/slipway"
	ofRack   = "service/rack"
)

// eventLine writes an event as a line of the rack's log.
func (c *call) eventLine(e api.Event) error {
	_, err := c.socket.Write([]byte(eventText(ofRack, e)))
	return err
}

// eventText is an event in the form of a line of the log.
func eventText(from string, e api.Event) string {
	parts := []string{e.Type}
	for _, part := range []string{string(e.App), e.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if e.Actor != "" {
		parts = append(parts, "by "+e.Actor)
	}
	object := e.Object
	if object == "" {
		object = "rack"
	}
	return fmt.Sprintf("%s %s/%s %s\n", e.At.UTC().Format(time.RFC3339), from, object, oneLine(strings.Join(parts, " ")))
}

// oneLine makes one line of a text.
func oneLine(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", " ") }
