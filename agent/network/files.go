package network

import (
	"fmt"
	"strings"
)

// HostsFile is /etc/hosts of a process.
func (e Endpoint) HostsFile() []byte {
	return fmt.Appendf(nil, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n%s\t%s\n", e.Addr, e.Hostname)
}

// ResolvConf is /etc/resolv.conf of a process of app: names are asked of the node, "service" in
// the app's own domain and "service.app" in the rack's.
func (n *Network) ResolvConf(app string) []byte {
	search := strings.Trim(app+"."+n.cfg.Domain, ".")
	if n.cfg.Domain != "" {
		search += " " + n.cfg.Domain
	}
	return fmt.Appendf(nil, "nameserver %s\nsearch %s\noptions ndots:1 timeout:1 attempts:3\n", n.Gateway(), search)
}
