package rest

import (
	"strings"

	"slipway/api"
	"slipway/api/client"
)

// rawBytes marks routes whose stream is what the far end sends, and nothing of ours.
const rawBytes = "raw bytes"

func proxyRoutes() []route {
	return []route{{
		method: socketMethod, path: "/proxy/{host}/{port}", summary: "Connect to a TCP port of a process; the host is SERVICE.APP or PROCESS.APP",
		right: rightDeploy, calls: []string{"Session"}, answer: rawBytes, serve: proxy,
	}}
}

// proxy carries bytes between the client and a port.
func proxy(c *call) error {
	name, app, err := parseHost(c.text("host"))
	if err != nil {
		return err
	}
	to := client.Place{Process: api.ProcessID(name), Service: api.ServiceName(name)}
	return c.rack.Proxy(c, app, to, uint16(c.number("port", 0)), c.input, c.socket)
}

// parseHost reads the name of a service or process of an app: web.shop, or web.shop.rack.local.
func parseHost(host string) (name string, app api.AppName, err error) {
	name, rest, _ := strings.Cut(host, ".")
	of, _, _ := strings.Cut(rest, ".")
	if name == "" || of == "" {
		return "", "", api.Errorf(api.CodeInvalid, "host %q: the rack connects to its own processes only; name one as SERVICE.APP, as in web.shop", clip(host))
	}
	if err := api.CheckName("app", of); err != nil {
		return "", "", err
	}
	return name, api.AppName(of), nil
}
