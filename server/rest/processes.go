package rest

import (
	"time"

	"slipway/api"
	"slipway/api/client"
	"slipway/manifest"
)

const (
	// commandMax bounds a command, in bytes.
	commandMax = 64 << 10
	// runMax is the longest life of a one-off that the rack knows. One in Convox has no end.
	runMax = 7 * 24 * time.Hour
)

// terminal are the headers that describe the terminal of a client.
var terminal = []param{
	{name: "Height", in: inHeader, kind: kindNumber, most: 65_535, doc: "rows of the terminal"},
	{name: "Width", in: inHeader, kind: kindNumber, most: 65_535, doc: "columns of the terminal"},
}

func processRoutes() []route {
	command := param{name: "Command", in: inHeader, required: true, most: commandMax, doc: "the command, as one line"}
	return []route{
		{
			method: "GET", path: "/apps/{app}/processes", summary: "List processes", right: rightRead, calls: []string{"ListProcesses"},
			params: []param{
				{name: "service", in: inQuery, most: nameMax, doc: "only of this service"},
				{name: "release", in: inQuery, most: nameMax, doc: "only of this release"},
			},
			answer: []process{}, serve: listProcesses,
		},
		{
			method: "GET", path: "/apps/{app}/processes/{pid}", summary: "Describe a process", right: rightRead, calls: []string{"GetProcess"},
			answer: process{}, serve: func(c *call) error {
				p, err := c.rack.Process(c, c.app(), api.ProcessID(c.text("pid")))
				return c.json(processOf(p), err)
			},
		},
		{
			method: "DELETE", path: "/apps/{app}/processes/{pid}", summary: "Stop a process; a copy of a service is replaced", right: rightDeploy,
			calls: []string{"StopProcess"}, serve: func(c *call) error {
				return c.ok(c.rack.StopProcess(c, c.app(), api.ProcessID(c.text("pid"))))
			},
		},
		{
			method: "POST", path: "/apps/{app}/services/{service}/processes", summary: "Run a command in a new process of a service", right: rightDeploy,
			calls: []string{"Run"}, params: append(append([]param{command, {name: "Release", in: inHeader, most: nameMax, doc: "ID of the release; the active one by default"}}, terminal...), runMissing()...),
			answer: process{}, serve: runProcess,
		},
		{
			method: socketMethod, path: "/apps/{app}/processes/{pid}/exec", summary: "Run a command in a running process, or in one of a service", right: rightDeploy,
			calls: []string{"Session"}, params: append([]param{
				command,
				{name: "Tty", in: inHeader, kind: kindBool, doc: "give the command a terminal; true by default"},
				{name: "Entrypoint", in: inHeader, kind: kindBool, doc: "run the command through the entrypoint of the image"},
				{name: "Disable-Stdin", in: inHeader, kind: kindBool, doc: "give the command no input"},
			}, terminal...),
			answer: exitStatus, serve: execute,
		},
		{
			method: socketMethod, path: "/apps/{app}/processes/{pid}/logs", summary: "Follow the log of a process", right: rightRead, calls: []string{"Session"},
			params: logParams, serve: appLogs,
		},
		{
			method: socketMethod, path: "/apps/{app}/services/{service}/logs", summary: "Follow the log of a service", right: rightRead, calls: []string{"Session"},
			params: logParams, serve: appLogs,
		},
		{
			method: socketMethod, path: "/apps/{app}/logs", summary: "Follow the log of an app", right: rightRead, calls: []string{"Session", "Events"},
			params: logParams, serve: appLogs,
		},
	}
}

// runMissing are the headers of a run that change what its service says.
func runMissing() (out []param) {
	for _, name := range []string{
		"Cpu", "Cpu-Limit", "Environment", "Gpu", "Gpu-Vendor", "Image", "Memory", "Memory-Limit", "Node-Labels", "Privileged", "System-Critical",
		"Use-Service-Volume", "Volumes",
	} {
		out = append(out, param{name: name, in: inHeader, missing: true, doc: "a run takes everything but its command from the service"})
	}
	return out
}

func listProcesses(c *call) error {
	list, err := c.rack.Processes(c, client.ProcessFilter{
		App: c.app(), Service: c.service(), Release: api.ReleaseID(c.text("release")),
	})
	return c.json(all(list, processOf), err)
}

// words splits the command that the caller typed.
func (c *call) words() ([]string, error) {
	words, ok := manifest.Words(c.text("Command"))
	if !ok {
		return nil, api.Errorf(api.CodeInvalid, "header Command: a quote or a backslash at its end is not closed")
	}
	return words, nil
}

func (c *call) size() client.Size {
	return client.Size{Rows: uint16(c.number("Height", 0)), Cols: uint16(c.number("Width", 0))}
}

// runProcess begins a one-off that nobody is attached to: clients enter it afterwards.
func runProcess(c *call) error {
	words, err := c.words()
	if err != nil {
		return err
	}
	p, err := c.rack.Run(c, c.app(), client.Run{
		Service: c.service(), Command: words, Release: c.text("Release"), Detach: true, Timeout: runMax,
	})
	return c.json(processOf(p), err)
}

// execute runs a command; its exit status ends the stream. Only what the node reports is one: a
// session that breaks has none, and never reads as 0.
func execute(c *call) error {
	words, err := c.words()
	if err != nil {
		return err
	}
	e := client.Exec{
		Process: api.ProcessID(c.text("pid")), Service: api.ServiceName(c.text("pid")), Command: words, Entrypoint: c.flag("Entrypoint", false),
		TTY: c.flag("Tty", true), Size: c.size(),
	}
	streams := client.Streams{In: c.input, Out: c.socket, Err: c.socket}
	if c.flag("Disable-Stdin", false) {
		streams.In = nil
	}
	code, err := c.rack.Exec(c, c.app(), e, streams)
	if err != nil {
		return err
	}
	c.socket.exit(code)
	return nil
}
