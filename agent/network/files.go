package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// writeWhole writes a file, whole or not at all as far as readers see.
func writeWhole(file string, doc []byte) error {
	tmp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)) // nothing that anybody reads
	if err := os.WriteFile(tmp, doc, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// removeFile removes a file; one that is not there is no error.
func removeFile(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
