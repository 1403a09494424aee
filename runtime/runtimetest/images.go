package runtimetest

import (
	"slices"
	"strings"
	"sync"

	"slipway/api"
	"slipway/runtime"
)

// unique is an image that no other test has.
func (l *lab) unique() Image {
	i := Image{Labels: map[string]string{"test": string(l.id())}}
	i.Entrypoint, i.Cmd, i.Env = []string{"/guest"}, []string{"wait"}, []string{"PATH=/bin", "FROM=image"}
	i.User, i.WorkDir, i.StopSignal, i.Volumes = "1000:1000", "/tmp", "SIGINT", []string{"/data"}
	return i
}

func images(l *lab) {
	want := l.unique()
	ref := l.Push(l.T, want)
	_, err := l.Engine.Image(l.ctx(), ref)
	l.coded("an image that was not pulled", err, api.CodeNotFound)
	var done, total api.Bytes
	info, err := l.Engine.Pull(l.ctx(), ref, func(d, t api.Bytes) { done, total = d, t })
	if err != nil {
		l.Fatal(err)
	}
	if done != info.Size || total != info.Size {
		l.Errorf("progress ended with %d of %d, the image has %d", done, total, info.Size)
	}
	got := info
	got.Size = want.Size
	want.Ref = ref
	if !equalInfo(got, want.ImageInfo) {
		l.Errorf("got  %+v\nwant %+v", got, want.ImageInfo)
	}
	before := l.Fetches(ref)
	again, err := l.Engine.Pull(l.ctx(), ref, nil)
	if err != nil || !equalInfo(again, info) || l.Fetches(ref) != before {
		l.Errorf("pulled again: %+v, %v, fetched %d times more", again, err, l.Fetches(ref)-before)
	}
	list, err := l.Engine.ListImages(l.ctx())
	if err != nil || !slices.ContainsFunc(list, func(i runtime.ImageInfo) bool { return equalInfo(i, info) }) ||
		!slices.IsSortedFunc(list, func(a, b runtime.ImageInfo) int { return strings.Compare(a.Ref, b.Ref) }) {
		l.Errorf("list: %+v, %v", list, err)
	}
	s := l.spec()
	s.Image, s.Command, s.User = ref, []string{"wait"}, "0"
	l.start(s)
	for range 2 {
		if err := l.Engine.RemoveImage(l.ctx(), ref); err != nil {
			l.Fatal(err)
		}
	}
	_, err = l.Engine.Image(l.ctx(), ref)
	l.coded("a removed image", err, api.CodeNotFound)
	if c, _ := l.find(s.ID); c.State != runtime.ContainerRunning {
		l.Errorf("the container of a removed image is %+v", c)
	}
	_, err = l.Engine.Pull(l.ctx(), ref[:strings.Index(ref, "@")]+"@sha256:"+strings.Repeat("0", 64), nil)
	l.coded("pull of what the registry does not have", err, api.CodeNotFound)
}

func equalInfo(a, b runtime.ImageInfo) bool {
	return a.Ref == b.Ref && a.User == b.User && a.WorkDir == b.WorkDir && a.StopSignal == b.StopSignal && a.Size == b.Size &&
		slices.Equal(a.Entrypoint, b.Entrypoint) && slices.Equal(a.Cmd, b.Cmd) && slices.Equal(a.Env, b.Env) && slices.Equal(a.Volumes, b.Volumes)
}

func sharedPull(l *lab) {
	ref := l.Push(l.T, l.unique())
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if info, err := l.Engine.Pull(l.ctx(), ref, nil); err != nil || info.Ref != ref {
				l.Errorf("got %+v, %v", info, err)
			}
		})
	}
	wg.Wait()
	if n := l.Fetches(ref); n != 1 {
		l.Errorf("fetched %d times", n)
	}
}

func command(l *lab) {
	i := l.unique()
	i.Entrypoint, i.Cmd, i.User = []string{"/guest", "args", "entry"}, []string{"cmd"}, ""
	ref := l.pulled(i)
	guest := []string{"/guest", "args", "own"}
	for _, c := range []struct {
		entrypoint, command []string
		want                string
	}{
		{nil, nil, "args|entry|cmd"},
		{nil, []string{"a b", "", "$c"}, "args|entry|a b||$c"},
		{guest, nil, "args|own"},
		{guest, []string{"x"}, "args|own|x"},
		{[]string{}, guest, "args|own"},
	} {
		s := l.spec()
		s.Image, s.Entrypoint, s.Command = ref, c.entrypoint, c.command
		if out, end := l.run(s); out != c.want+"\n" || end.ExitCode != 0 {
			l.Errorf("%q %q: got %q and %+v, want %q", c.entrypoint, c.command, out, end, c.want)
		}
	}
}

func environment(l *lab) {
	i := Image{}
	i.Env = []string{"A=image", "B=image"}
	s := l.spec("env", "A", "env", "B", "env", "C", "env", "PATH", "env", "TEST")
	s.Image = l.pulled(i)
	s.Env = []string{"B=spec", "C=with = and \"quotes\""}
	s.Labels = map[string]string{"TEST": "label"}
	want := "image\nspec\nwith = and \"quotes\"\n" + runtime.PathDefault + "\nunset\n"
	if out, _ := l.run(s); out != want {
		l.Errorf("got %q, want %q", out, want)
	}
}

func workDir(l *lab) {
	i := Image{}
	i.WorkDir = "/tmp"
	ref := l.pulled(i)
	for _, c := range []struct{ image, dir, want string }{
		{"", "", "/"}, {ref, "", "/tmp"}, {ref, "/", "/"}, {"", "/tmp/../tmp/", "/tmp"},
	} {
		s := l.spec("dir")
		if c.image != "" {
			s.Image = c.image
		}
		s.WorkDir = c.dir
		if out, _ := l.run(s); out != c.want+"\n" {
			l.Errorf("image %q, directory %q: got %q, want %q", c.image, c.dir, out, c.want)
		}
	}
}

func refusals(l *lab) {
	asRoot, noCommand := Image{}, Image{}
	asRoot.User, asRoot.Cmd = "root", []string{"/guest"}
	for name, change := range map[string]func(*runtime.Spec){
		"image that is not there": func(s *runtime.Spec) { s.Image = s.Image[:len(s.Image)-1] + "x" },
		"no command":              func(s *runtime.Spec) { s.Image, s.Entrypoint, s.Command = l.pulled(noCommand), nil, nil },
		"empty entrypoint":        func(s *runtime.Spec) { s.Image, s.Entrypoint, s.Command = l.pulled(noCommand), []string{}, nil },
		"directory in /proc":      func(s *runtime.Spec) { s.WorkDir = "/proc/self/fd/7" },
		"relative directory":      func(s *runtime.Spec) { s.WorkDir = "tmp" },
		"user out of range":       func(s *runtime.Spec) { s.User = "4294967296" },
		"user with a blank":       func(s *runtime.Spec) { s.User = "root " },
		"root by default":         func(s *runtime.Spec) { s.NonRoot = true },
		"root by name":            func(s *runtime.Spec) { s.NonRoot, s.Image = true, l.pulled(asRoot) },
		"root by number":          func(s *runtime.Spec) { s.NonRoot, s.User = true, "00:1000" },
		"mount that goes up":      func(s *runtime.Spec) { s.Mounts = []runtime.Mount{{Target: "/a/../../etc"}} },
		"ID that is a path":       func(s *runtime.Spec) { s.ID = "../../etc" },
	} {
		s := l.spec("wait")
		change(&s)
		want := api.CodeInvalid
		if strings.HasPrefix(name, "image") {
			want = api.CodeNotFound
		}
		l.coded(name, l.Engine.Create(l.ctx(), s), want)
		if c, there := l.find(s.ID); there {
			l.Errorf("%s: left %+v", name, c)
			l.removeAtEnd(s.ID)
		}
		if s.ID != "../../etc" { // the same ID works once the cause is gone
			good := l.spec("exit", "0")
			good.ID = s.ID
			l.run(good)
		}
	}
	s := l.spec("exit", "0")
	s.NonRoot, s.User = true, "1000:1000"
	if _, end := l.run(s); end.ExitCode != 0 {
		l.Errorf("a user that is not root ended with %+v", end)
	}
}
