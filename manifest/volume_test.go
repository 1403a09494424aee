package manifest

import (
	"path"
	"testing"

	"pgregory.net/rapid"
)

// Two paths never share the directory that the rack keeps for them, and its name is one.
func TestManagedNames(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"/data": "data", "/var/data/": "var-data", "/a.b/c_d": "a.b-c_d",
	} {
		if got := managedName(from); got != want {
			t.Errorf("%s is kept as %q, want %q", from, got, want)
		}
	}
	segment := rapid.StringMatching(`[a-zA-Z0-9._ é-]{1,30}`).Filter(func(s string) bool { return s != "." && s != ".." })
	some := rapid.Custom(func(t *rapid.T) string {
		p := ""
		for _, s := range rapid.SliceOfN(segment, 1, 4).Draw(t, "segments") {
			p += "/" + s
		}
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := some.Draw(t, "a"), some.Draw(t, "b")
		x, y := managedName(a), managedName(b)
		if (path.Clean(a) == path.Clean(b)) != (x == y) {
			t.Fatalf("%q is kept as %q, %q as %q", a, x, b, y)
		}
		if !volumeName.MatchString(x) {
			t.Fatalf("%q is kept as %q, which is no name", a, x)
		}
	})
	for _, pair := range [][2]string{{"/var/my-data", "/var/my/data"}, {"/a b", "/a_b"}, {"/é", "/è"}} {
		if managedName(pair[0]) == managedName(pair[1]) {
			t.Errorf("%s and %s are kept as %q", pair[0], pair[1], managedName(pair[0]))
		}
	}
}
