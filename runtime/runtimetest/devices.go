package runtimetest

import (
	"os"
	"path/filepath"
	"strings"

	"slipway/api"
	"slipway/runtime"
)

// givenDevices: a device that is there can be given, one that is not says so, and neither leaves
// anything.
func givenDevices(l *lab) {
	s := l.spec("exit", "0")
	s.Devices = []string{l.Device}
	if _, c := l.run(s); c.State != runtime.ContainerExited || c.ExitCode != 0 {
		l.Errorf("with a device: %+v", c)
	}
	for path, code := range map[string]api.Code{
		filepath.Join(filepath.Dir(l.Device), "not-there"): api.CodeNotFound, "fuse": api.CodeInvalid, "/dev/../etc/hosts": api.CodeInvalid,
	} {
		s := l.spec("exit", "0")
		s.Devices = []string{path}
		err := l.Engine.Create(l.ctx(), s)
		l.coded("device "+path, err, code)
		if err != nil && !strings.Contains(err.Error(), path) {
			l.Errorf("device %s: %v", path, err)
		}
		if c, there := l.find(s.ID); there {
			l.Errorf("device %s: left %+v", path, c)
			l.removeAtEnd(s.ID)
		}
	}
}

// opens says whether a device can be opened for reading and writing, and who owns it.
func (l *lab) opens(path string) string {
	return "(exec 3<>" + path + ") 2>/dev/null && echo yes || echo no; stat -c %u:%g " + path + " 2>/dev/null"
}

// devices: a process uses what it was given, whoever it is, and no other device, not even by a
// node that it makes itself.
func devices(l *lab) {
	give := func(change func(*runtime.Spec)) runtime.Spec {
		s := l.sh("(" + l.opens(l.Device) + ")")
		s.Devices = []string{l.Device}
		change(&s)
		return s
	}
	l.prints("without", give(func(s *runtime.Spec) { s.Devices = nil }), "no\n")
	l.prints("given", give(func(*runtime.Spec) {}), "yes\n0:0\n")
	l.prints("given to a user", give(func(s *runtime.Spec) { s.User = "1000:1001" }), "yes\n1000:1001\n")
	l.prints("given where nothing can be written", give(func(s *runtime.Spec) { s.ReadOnlyRootFS = true }), "yes\n0:0\n")
	l.prints("given to one that is privileged", give(func(s *runtime.Spec) { s.Privileged = true }), "yes\n0:0\n")
	link := filepath.Join(l.Dir, string(l.id()))
	if err := os.Symlink(l.Device, link); err != nil {
		l.Fatal(err)
	}
	byLink := l.sh("(" + l.opens(link) + ")")
	byLink.Devices = []string{link}
	l.prints("given by a link", byLink, "yes\n0:0\n")

	makes := l.sh("mknod /tmp/node c 10 229 && (" + l.opens("/tmp/node") + ")")
	makes.CapAdd, makes.Mounts = []string{"MKNOD"}, nil
	l.prints("made by itself", makes, "no\n0:0\n")
	other := l.sh("mknod /tmp/node c 10 237 && (" + l.opens("/tmp/node") + ")")
	other.CapAdd, other.Devices = []string{"MKNOD"}, []string{l.Device}
	l.prints("another one, made by itself", other, "no\n0:0\n")
	if st, err := os.Stat(l.Device); err != nil || st.Mode().Perm() != 0o600 {
		l.Errorf("the host's node: %v, %v", st, err)
	}

	file := filepath.Join(l.Dir, string(l.id()))
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		l.Fatal(err)
	}
	s := l.sh("true")
	s.Devices = []string{file}
	l.coded("a file", l.Engine.Create(l.ctx(), s), api.CodeInvalid)
}

// groupAlone: a group that is given without a user goes to the image's.
func groupAlone(l *lab) {
	i := Image{Files: []File{{Name: "etc/passwd", Text: "app:x:1000:1000::/:/bin/sh\n"}, {Name: "etc/group", Text: "app:x:1000:\nextra:x:2000:app\n"}}}
	i.User = "app"
	s := l.sh("echo $(id -u) $(id -g) $(sed -n 's/^Groups://p' /proc/self/status)")
	s.Image, s.Group = l.pulled(i), "7"
	l.prints("group 7", s, "1000 7 7\n")
	s = l.sh("echo $(id -u) $(id -g)")
	s.Group = "7"
	l.prints("group 7 of an image without a user", s, "0 7\n")
}
