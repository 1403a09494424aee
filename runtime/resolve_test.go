package runtime

import (
	"slices"
	"strings"
	"testing"

	"slipway/api"
)

func TestCommandIsCompletedByTheImage(t *testing.T) {
	image := ImageInfo{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"A=image", "B=image"}, User: "app", WorkDir: "/srv/"}
	for _, c := range []struct {
		name string
		spec Spec
		args string
	}{
		{"nothing", Spec{}, "/entry serve"},
		{"command", Spec{Command: []string{"work", "-v"}}, "/entry work -v"},
		{"entrypoint drops CMD", Spec{Entrypoint: []string{"sh"}}, "sh"},
		{"entrypoint and command", Spec{Entrypoint: []string{"sh"}, Command: []string{"-c", "x"}}, "sh -c x"},
		{"entrypoint removed", Spec{Entrypoint: []string{}, Command: []string{"ls"}}, "ls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.ID = "pabc"
			got, err := c.spec.Resolve(image)
			if err != nil || strings.Join(got.Args, " ") != c.args {
				t.Fatalf("runs %q (%v), want %s", got.Args, err, c.args)
			}
			if got.User != "app" || got.WorkDir != "/srv" {
				t.Errorf("user %q in %q", got.User, got.WorkDir)
			}
		})
	}
	s := Spec{ID: "pabc", Env: []string{"B=spec", "C=spec", "D=x=y"}, User: "0:7", WorkDir: "/tmp"}
	got, err := s.Resolve(image)
	want := []string{"PATH=" + PathDefault, "A=image", "B=spec", "C=spec", "D=x=y"}
	if err != nil || !slices.Equal(got.Env, want) || got.User != "0:7" || got.WorkDir != "/tmp" {
		t.Errorf("got %+v (%v), want the environment %q", got, err, want)
	}
	if got.Env = MergeEnv(got.Env, []string{"PATH=/x", "=nameless", "word"}); got.Env[0] != "PATH=/x" || len(got.Env) != len(want) {
		t.Errorf("merged to %q", got.Env)
	}
}

// TestGroupAlone: a group that is given without a user goes to the image's user.
func TestGroupAlone(t *testing.T) {
	for _, c := range []struct{ image, user, group, want string }{
		{"app", "", "7", "app:7"}, {"", "", "7", "0:7"}, {"app:app", "", "7", "app:7"}, {"1000:1000", "", "web", "1000:web"},
		{"app", "12", "7", "12:7"}, {"app", "12:13", "7", "12:7"}, {"app:app", "", "", "app:app"}, {"", "", "", ""},
	} {
		s := Spec{ID: "p", User: c.user, Group: c.group}
		if got, err := s.Resolve(ImageInfo{Cmd: []string{"run"}, User: c.image}); err != nil || got.User != c.want {
			t.Errorf("%+v: %q, %v", c, got.User, err)
		}
	}
}

func TestSpecsThatCanNeverRun(t *testing.T) {
	image := ImageInfo{Cmd: []string{"run"}}
	for name, s := range map[string]Spec{
		"id with a path":        {ID: "../x"},
		"no id":                 {},
		"long id":               {ID: api.ProcessID(strings.Repeat("p", 64))},
		"no command":            {ID: "p", Entrypoint: []string{}},
		"relative directory":    {ID: "p", WorkDir: "srv"},
		"directory in proc":     {ID: "p", WorkDir: "/proc/self/fd/7"},
		"hidden proc":           {ID: "p", WorkDir: "/srv/../proc/./self/cwd"},
		"proc itself":           {ID: "p", WorkDir: "/proc"},
		"relative mount":        {ID: "p", Mounts: []Mount{{Target: "data"}}},
		"mount that goes up":    {ID: "p", Mounts: []Mount{{Target: "/data/../../etc"}}},
		"mount on the root":     {ID: "p", Mounts: []Mount{{Target: "/"}}},
		"relative device":       {ID: "p", Devices: []string{"null"}},
		"device that goes up":   {ID: "p", Devices: []string{"/dev/../etc/passwd"}},
		"device in proc":        {ID: "p", Devices: []string{"/proc/kcore"}},
		"device in sys":         {ID: "p", Devices: []string{"/sys/kernel"}},
		"device twice":          {ID: "p", Devices: []string{"/dev/fuse", "/dev/fuse"}},
		"no device":             {ID: "p", Devices: []string{""}},
		"root as a device":      {ID: "p", Devices: []string{"/"}},
		"group overflows alone": {ID: "p", Group: "4294967296"},
		"group of two parts":    {ID: "p", Group: "1:2"},
		"overflow to root":      {ID: "p", User: "4294967296"},
		"uid of 2^31":           {ID: "p", User: "2147483648"},
		"more than 64 bits":     {ID: "p", User: "18446744073709551616"},
		"group overflows":       {ID: "p", User: "1000:4294967296"},
		"negative":              {ID: "p", User: "-1"},
		"signed zero":           {ID: "p", User: "+0"},
		"blank after":           {ID: "p", User: "root "},
		"tab before":            {ID: "p", User: "\troot"},
		"line end":              {ID: "p", User: "root\n"},
		"zero byte":             {ID: "p", User: "root\x00"},
		"three parts":           {ID: "p", User: "a:b:c"},
		"group only":            {ID: "p", User: ":0"},
		"no group after colon":  {ID: "p", User: "app:"},
		"unusual blank":         {ID: "p", User: "root\u00a0"},
	} {
		t.Run(name, func(t *testing.T) {
			img := image
			if name == "no command" {
				img.Cmd = nil
			}
			if got, err := s.Resolve(img); api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("got %+v, %v, want an error of code invalid", got, err)
			}
		})
	}
}

func TestSpecsThatLookOdd(t *testing.T) {
	image := ImageInfo{Cmd: []string{"run"}}
	for name, s := range map[string]Spec{
		"highest user":          {ID: "p", User: "2147483647:2147483647"},
		"leading zeros":         {ID: "p", User: "007"},
		"name with punctuation": {ID: "p", User: "_www-data.1:adm"},
		"procession":            {ID: "p", WorkDir: "/process"},
		"dots in a directory":   {ID: "p", WorkDir: "/srv/..app/../web"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Resolve(image); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzCheckUser looks for a text that passes and that a reader of numbers could take for 0
// although it is not written so.
func FuzzCheckUser(f *testing.F) {
	for _, s := range []string{"root", "0", "4294967296", "root ", "00", "1:0", "+0", "0x0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckUser(s) != nil {
			return
		}
		if strings.TrimSpace(s) != s || strings.ContainsAny(s, "\x00\n\t +") {
			t.Errorf("%q passes", s)
		}
	})
}
