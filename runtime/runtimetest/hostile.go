package runtimetest

import (
	"os"
	"path/filepath"
	"strings"

	"slipway/api"
	"slipway/runtime"
)

// refused checks that a container of an image is not made, and that nothing is left of it.
func (l *lab) refused(what string, i Image) {
	l.Helper()
	s := l.spec("exit", "0")
	s.Image = l.pulled(i)
	err := l.Engine.Create(l.ctx(), s)
	l.coded(what, err, api.CodeInvalid)
	if c, there := l.find(s.ID); there {
		l.Errorf("%s: left %+v", what, c)
		l.removeAtEnd(s.ID)
	}
}

func hostileUsers(l *lab) {
	for _, user := range []string{"4294967296", "4294967296:0", "0:4294967296", "2147483648", "-1", "root ", " root", "+0", "root\t", "0x0 ", "a:b:c", ":", strings.Repeat("9", 400)} {
		i := Image{}
		i.User = user
		l.refused("USER "+user, i)
	}
}

func hostileDirs(l *lab) {
	files := []File{
		{Name: "trap", Link: "/proc/self/fd/7"}, {Name: "chain", Link: "chained"}, {Name: "chained", Link: "../../proc/self"},
		{Name: "here", Link: "/tmp/../here2"}, {Name: "here2/", Text: ""}, {Name: "file", Text: "x"}, {Name: "loop", Link: "loop"},
	}
	for _, dir := range []string{"/proc/self/fd/7", "/proc", "/srv/../proc/1/cwd", "relative", "/trap", "/file", "/file/sub", "/chain", "/chain/cwd", "/loop"} {
		i := Image{Files: files}
		i.WorkDir = dir
		l.refused("WORKDIR "+dir, i)
	}
	i := Image{Files: files}
	i.WorkDir = "/here"
	s := l.spec("dir")
	s.Image = l.pulled(i)
	l.prints("a link that leads nowhere bad", s, "/here2\n")
}

func hostileLinks(l *lab) {
	canary := filepath.Join(l.Dir, string(l.id()))
	if err := os.Mkdir(canary, 0o777); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(canary, "ptmx"), []byte("mine"), 0o644); err != nil {
		l.Fatal(err)
	}
	for _, name := range []string{"dev", "proc", "sys"} {
		l.refused("/"+name+" as a link", Image{Files: []File{{Name: name, Link: canary}}})
		l.refused("/"+name+" as a link that goes up", Image{Files: []File{{Name: name, Link: "../../../../../.." + canary}}})
		l.refused("/"+name+" as a file", Image{Files: []File{{Name: name, Text: "x"}}})
	}
	// Links in the way of what is mounted, and names that leave the archive, stay inside.
	up := strings.Repeat("../", 20)
	s := l.sh("cat /etc/hosts | head -c 9; grep -c ' " + canary + "/v ' /proc/mounts")
	s.Image = l.pulled(Image{Files: []File{
		{Name: "etc/hosts", Link: canary + "/hosts"}, {Name: "etc/hostname", Link: up + canary + "/hostname"},
		{Name: "data", Link: up + canary + "/v"}, {Name: up + canary[1:] + "/escaped", Text: "x"}, {Name: "link", Link: canary}, {Name: "link/through", Text: "x"},
	}})
	s.Mounts = []runtime.Mount{{Target: "/data"}}
	l.prints("mounted through links", s, "127.0.0.11\n")
	left, err := os.ReadDir(canary)
	if err != nil || len(left) != 1 {
		l.Errorf("the host's directory has %v, %v", left, err)
	}
	if b, err := os.ReadFile(filepath.Join(canary, "ptmx")); string(b) != "mine" {
		l.Errorf("the host's file has %q, %v", b, err)
	}
}

func hostileVolumes(l *lab) {
	i := Image{}
	i.Volumes = []string{"/../../etc", "/data", "/proc/self", "relative"}
	s := l.sh("ls -d /data 2>&1; grep -c -e ' /data ' -e ' /etc ' -e relative /proc/mounts")
	s.Image = l.pulled(i)
	l.prints("volumes of the image", s, "ls: /data: No such file or directory\n0\n")
}

func hostileFiles(l *lab) {
	const much = 64 << 20
	for name, i := range map[string]Image{
		"huge group":        {Files: []File{{Name: "etc/group", Text: "app:x:1:\n", Zero: much}}},
		"huge passwd":       {Files: []File{{Name: "etc/passwd", Text: "x:x:1:1::/:\n", Zero: much}}},
		"passwd is a link":  {Files: []File{{Name: "etc/passwd", Link: "/proc/self/environ"}}},
		"passwd goes up":    {Files: []File{{Name: "etc/passwd", Link: strings.Repeat("../", 20) + "etc/passwd"}}},
		"group in disguise": {Files: []File{{Name: "etc/group", Text: "app:x:1000:\n1000:x:0:\n"}, {Name: "etc/passwd", Text: "app:x:1000:1000::/:\n"}}},
		"passwd, a folder":  {Files: []File{{Name: "etc/passwd/", Text: ""}}},
		"passwd of garbage": {Files: []File{{Name: "etc/passwd", Text: "app\x00:x:0:0\n:::::\napp:x:-5:0::/:\n"}}},
	} {
		if i.User = "app"; name == "huge group" {
			i.User = "root"
		}
		l.refused(name, i)
	}
}
