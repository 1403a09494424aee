package manifest

import (
	"slices"
	"strconv"
	"strings"

	"slipway/api"
)

// dangerous lists the capabilities with which a process can leave its container.
var dangerous = []string{
	"ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE", "SYS_BOOT", "SYS_TIME", "SYSLOG", "BPF", "PERFMON",
	"DAC_READ_SEARCH", "MAC_ADMIN", "MAC_OVERRIDE", "CHECKPOINT_RESTORE", "LINUX_IMMUTABLE",
}

// security reads what a process may do beyond or below the ordinary.
func (l *loader) security(spec *api.ServiceSpec, n *node) {
	c := n.get("securityContext")
	spec.Security = api.SecurityContext{
		RunAsUser:        identity(c.get("runAsUser")),
		RunAsGroup:       identity(c.get("runAsGroup")),
		RunAsNonRoot:     c.get("runAsNonRoot").flag(false),
		ReadOnlyRootFS:   c.get("readOnlyRootFilesystem").flag(false),
		CapabilitiesDrop: capabilities(c.get("capabilities", "drop")),
		CapabilitiesAdd:  capabilities(c.get("capabilities", "add")),
	}
	if user := spec.Security.RunAsUser; user != nil && *user == 0 && spec.Security.RunAsNonRoot {
		l.problem(c.get("runAsUser"), "service %s: runAsUser is 0 with runAsNonRoot", spec.Name).
			hint("0 is root; choose another user")
	}

	if spec.Privileged {
		l.powerful(n.get("privileged"), "service %s is privileged: it controls the node it runs on", spec.Name)
	}
	for _, item := range c.get("capabilities", "add").elements() {
		if name := strings.TrimPrefix(item.string(""), "CAP_"); slices.Contains(dangerous, name) {
			l.powerful(item, "service %s adds the capability %s, with which it can take over its node", spec.Name, name)
		}
	}
	if p := c.get("seccompProfile"); p.string("") == "Unconfined" {
		l.powerful(p, "service %s runs without a seccomp profile", spec.Name)
	}
}

// powerful reports what only a rack that allows it runs.
func (l *loader) powerful(n *node, format string, args ...any) {
	if l.options.AllowPrivileged {
		l.warn(n, format, args...)
		return
	}
	l.problem(n, format+", which this rack does not allow", args...).
		hint("remove it")
}

func identity(n *node) *int64 {
	v, err := strconv.ParseInt(n.string(""), 10, 64)
	if err != nil {
		return nil
	}
	return &v
}

// capabilities returns names without "CAP_".
func capabilities(n *node) []string {
	var names []string
	for _, s := range n.strings() {
		names = append(names, strings.TrimPrefix(s, "CAP_"))
	}
	return names
}
