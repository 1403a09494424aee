package manifest

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"slipway/api"
)

// mountable lists the host directories that may be mounted, read-only: what monitoring agents
// need to see of their node.
var mountable = []string{"/proc", "/sys/fs/cgroup"}

// system lists the host directories that belong to the node. Any other source is a directory
// that the rack keeps, so that no path of a manifest ever means a path of the host.
var system = []string{
	"/bin", "/boot", "/cgroup", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys",
	"/usr", "/var/lib", "/var/log", "/var/run",
}

var volumeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// volumes reads `path`, `source:path` and the memory volumes of v3.
func (l *loader) volumes(spec *api.ServiceSpec, n *node, m *Manifest) {
	for _, item := range n.get("volumes").elements() {
		if v, ok := l.volume(spec, item, m); ok {
			l.addVolume(spec, item, v)
		}
	}
	for _, item := range n.get("volumeOptions").elements() {
		dir := item.get("emptyDir")
		if dir == nil {
			continue
		}
		size, _ := parseSize(dir.get("sizeLimit").string("64Mi"))
		v := api.Volume{Path: dir.get("mountPath").string(""), Memory: true, Size: size}
		if dir.get("medium").string("") != "Memory" {
			if !spec.Security.ReadOnlyRootFS {
				l.notActing(dir.path)
				l.warn(dir, "service %s: emptyDir without medium Memory makes no volume: %s is in the process's own file system, and must be in its image",
					spec.Name, quote(source(dir.get("mountPath"))))
				continue
			}
			l.warn(dir, "service %s: emptyDir is kept in memory, the process's own file system is read-only", spec.Name)
		}
		if l.checkMount(spec, dir, v.Path) {
			l.addVolume(spec, dir, v)
		}
	}
}

func (l *loader) volume(spec *api.ServiceSpec, n *node, m *Manifest) (api.Volume, bool) {
	parts := strings.Split(n.string(""), ":")
	from, to, mode := parts[0], parts[0], ""
	if len(parts) > 1 {
		to = parts[1]
	}
	if len(parts) > 2 {
		mode = parts[2]
	}
	if len(parts) > 3 || !slices.Contains([]string{"", "ro", "rw"}, mode) {
		l.problem(n, "service %s: volume %s must be path, source:path or source:path:ro", spec.Name, quote(n.source))
		return api.Volume{}, false
	}
	if !l.checkMount(spec, n, to) {
		return api.Volume{}, false
	}
	if len(parts) == 1 || !strings.HasPrefix(from, "/") {
		return l.namedVolume(spec, n, m, from, path.Clean(to), mode)
	}
	return l.sourceVolume(spec, n, from, path.Clean(to), mode)
}

// namedVolume is a directory that the rack keeps, under a name or its own path.
func (l *loader) namedVolume(spec *api.ServiceSpec, n *node, m *Manifest, name, to, mode string) (api.Volume, bool) {
	if strings.HasPrefix(name, "/") {
		name = managedName(name)
	} else if !volumeName.MatchString(name) {
		l.problem(n, "service %s: volume %s must have an absolute path or a name as its source", spec.Name, quote(n.source))
		return api.Volume{}, false
	}
	if slices.ContainsFunc(m.Resources, func(r Resource) bool { return string(r.Name) == name }) {
		l.notActing(n.path)
	}
	return api.Volume{Name: name, Path: to, ReadOnly: mode == "ro"}, true
}

// sourceVolume is one of the host's mountable directories, or a directory that the rack keeps
// under the name of the source, as Convox v2 does.
func (l *loader) sourceVolume(spec *api.ServiceSpec, n *node, from, to, mode string) (api.Volume, bool) {
	host := path.Clean(from)
	switch {
	case !cleanAbs(from):
		l.problem(n, "service %s: volume source in %s must be an absolute path without . or ..", spec.Name, quote(n.source))
		return api.Volume{}, false
	case within(host, mountable):
		if mode == "rw" {
			l.problem(n, "service %s: volume %s: the node's %s can only be mounted read-only", spec.Name, quote(n.source), host)
			return api.Volume{}, false
		}
		return api.Volume{Host: host, Path: to, ReadOnly: true}, true
	case host == "/" || within(host, system) || strings.HasSuffix(host, ".sock"):
		l.problem(n, "service %s: volume %s would mount a part of the node; only %s can be mounted, read-only",
			spec.Name, quote(n.source), strings.Join(mountable, " and "))
		return api.Volume{}, false
	}
	l.warn(n, "service %s: the source of volume %s is a directory kept by the rack, not one of the node", spec.Name, quote(n.source))
	return api.Volume{Name: managedName(host), Path: to, ReadOnly: mode == "ro"}, true
}

// checkMount reports whether a volume may appear at a path of the process.
func (l *loader) checkMount(spec *api.ServiceSpec, n *node, to string) bool {
	switch {
	case !cleanAbs(to) || path.Clean(to) == "/":
		l.problem(n, "service %s: volume %s must be mounted at an absolute path without . or .., and not at /", spec.Name, quote(n.source))
	case within(path.Clean(to), []string{"/proc", "/sys", "/dev"}) && path.Clean(to) != "/dev/shm":
		l.problem(n, "service %s: volume %s can not be mounted over the process's /proc, /sys or /dev", spec.Name, quote(n.source))
	default:
		return true
	}
	return false
}

func (l *loader) addVolume(spec *api.ServiceSpec, n *node, v api.Volume) {
	for _, other := range spec.Volumes {
		if other.Path == v.Path {
			l.problem(n, "service %s: two volumes are mounted at %s", spec.Name, quote(v.Path))
			return
		}
	}
	spec.Volumes = append(spec.Volumes, v)
}

// within reports whether p is one of the directories, or below one.
func within(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") })
}

// managedName makes a name of a path: "/var/data" is "var-data". A character that a name can
// not hold becomes "_", and a name that had one ends in a hash of the path, to stay unique.
func managedName(p string) string {
	p = strings.Trim(path.Clean(p), "/")
	name := strings.ReplaceAll(p, "/", "-")
	if volumeName.MatchString(name) && !strings.Contains(p, "-") {
		return name
	}
	clean := strings.Map(func(r rune) rune {
		if r < 0x80 && volumeName.MatchString("a"+string(r)) {
			return r
		}
		return '_'
	}, name)
	if len(clean) > 40 {
		clean = clean[:40]
	}
	return "v" + clean + "-" + digest(p)
}
