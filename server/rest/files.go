package rest

import (
	"io"

	"slipway/api"
	"slipway/api/client"
)

// pathMax bounds the path of a file, in bytes.
const pathMax = 4 << 10

func fileRoutes() []route {
	return []route{
		{
			method: "GET", path: "/apps/{app}/processes/{pid}/files", summary: "Copy a file or a directory out of a process, as a tar", right: rightDeploy,
			calls: []string{"Session"}, params: []param{
				{name: "file", in: inQuery, required: true, most: pathMax, doc: "path in the process"},
				{name: "tar-extra", in: inQuery, missing: true, doc: "the rack makes the archive itself and has no such options"},
			},
			serve: func(c *call) error {
				return c.stream(func(w io.Writer) error { return c.rack.CopyOut(c, c.app(), c.place(c.text("file")), w) })
			},
		},
		{
			method: "POST", path: "/apps/{app}/processes/{pid}/files", summary: "Unpack a tar at the root of a process", right: rightDeploy,
			calls: []string{"Session"}, body: "a tar", params: []param{
				{name: "tar-extra", in: inQuery, missing: true, doc: "the rack unpacks the archive itself and has no such options"},
			},
			serve: func(c *call) error { return c.ok(c.rack.CopyIn(c, c.app(), c.place("/"), c.r.Body)) },
		},
	}
}

// place is a path in the process that the request names.
func (c *call) place(path string) client.Place {
	return client.Place{Process: api.ProcessID(c.text("pid")), Path: path}
}
