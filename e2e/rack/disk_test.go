package rack

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/api"
)

// diskSize is what a rack with a disk of its own gets: room for a few small images.
const diskSize = "size=400m"

// disk gives a rack that was not started yet a small disk of its own.
func (r *rack) disk() {
	r.t.Helper()
	dir := r.dir + "/rack"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := syscall.Mount("slipway-e2e", dir, "tmpfs", 0, diskSize); err != nil {
		r.t.Fatal(err)
	}
	r.unmount = func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
}

// fillDisk leaves nothing of the disk of the rack; empty gives it back.
func (r *rack) fillDisk() (empty func()) {
	r.t.Helper()
	path := r.dir + "/rack/ballast"
	f, err := os.Create(path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	var size int64
	r.await("full disk", 10*time.Second, func() bool {
		var st syscall.Statfs_t
		if err := syscall.Statfs(r.dir+"/rack", &st); err != nil {
			r.t.Fatal(err)
		}
		free := int64(st.Bavail) * st.Bsize
		if free == 0 {
			return true
		}
		// The rack may have taken some of it meanwhile.
		err := syscall.Fallocate(int(f.Fd()), 0, size, free)
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			r.t.Fatal(err)
		}
		if err == nil {
			size += free
		}
		return false
	})
	return func() {
		r.t.Helper()
		if err := os.Remove(path); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestFullDisk fills the disk that servers, images, volumes and logs share.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	r := prepare(t)
	r.disk()
	r.begin()
	src := r.source("shop", 1, "    volumes:\n      - /data\n")
	r.must("", "deploy", src, "-a", "shop")
	r.appFillsDisk()
	r.fillsDuringBuild(src)
	r.fillsDuringDeploy()
}

// appFillsDisk lets a process write until the disk is full.
func (r *rack) appFillsDisk() {
	before := r.settled("shop", 1)
	if got := r.ask("shop", "/fill"); !strings.Contains(got, "no space left on device") {
		r.t.Fatalf("the app filled the disk and answered %q", got)
	}
	out, code := "", 0
	big := strings.Repeat("x", 32<<10)
	r.awaitState("refusal", 20*time.Second, func() (string, bool) { // some changes may still fit
		out, code = r.slipway("", "env", "set", "VERSION="+big, "-a", "shop")
		big = big[1:] // the same change would not be one
		return out, code != 0
	})
	contains(r.t, "env set", out, "is full and the change was not stored", "free space", "no space left on device")
	// The rack still leads, tells and helps: the servers have a reserve.
	if out := r.must("", "exec", "web", "-a", "shop", "--", "/testapp", "env", "VERSION"); out != "one\n" {
		r.t.Errorf("with a full disk exec prints %q", out)
	}
	contains(r.t, "ps", r.must("", "ps", "-a", "shop"), "running")
	// What runs is not touched, and what it says while nothing can be stored does not stop it.
	for range 200 {
		r.ask("shop", "/say?text=a-line-for-a-full-disk")
	}
	if got := r.get("shop"); got != "one GET 0\n" {
		r.t.Errorf("with a full disk the app answers %q", got)
	}
	if got := r.ask("shop", "/empty"); !strings.Contains(got, "nil") {
		r.t.Fatalf("the app emptied the disk and answered %q", got)
	}
	// The rack goes on by itself.
	r.awaitState("change that is stored", 20*time.Second, func() (string, bool) {
		out, code := r.slipway("", "env", "set", "VERSION=two", "--promote", "-a", "shop")
		return out, code == 0
	})
	if got := r.get("shop"); got != "two GET 0\n" {
		r.t.Errorf("after the disk was emptied the app answers %q", got)
	}
	if after := r.settled("shop", 1); ids(after) == ids(before) {
		r.t.Errorf("the promotion replaced nothing: %s", ids(after))
	}
}

// fillsDuringBuild leaves the servers enough, and builds too little.
func (r *rack) fillsDuringBuild(src string) {
	good := readFile(r.t, src+"/Dockerfile")
	writeFile(r.t, src+"/Dockerfile", "FROM scratch\nCOPY testapp /testapp\nRUN [\"/testapp\", \"fill\", \"/big\"]\nENTRYPOINT [\"/testapp\"]\n")
	builds := len(document[[]api.BuildInfo](r, "builds", "-a", "shop", "--json"))
	out, code := r.slipway("", "deploy", src, "-a", "shop")
	if code == 0 {
		r.t.Errorf("a build that fills the disk succeeded:\n%s", out)
	}
	contains(r.t, "deploy", out[max(0, strings.LastIndex(out, "ERROR:")):], "no space left on device")
	writeFile(r.t, src+"/Dockerfile", good+"LABEL after=full\n")
	r.awaitState("build after the full disk", time.Minute, func() (string, bool) {
		out, code := r.slipway("", "deploy", src, "-a", "shop")
		return out, code == 0
	})
	if n := len(document[[]api.BuildInfo](r, "builds", "-a", "shop", "--json")); n < builds+2 {
		r.t.Errorf("%d builds are known, before the full disk it were %d", n, builds)
	}
}

// fillsDuringDeploy leaves too little for an image or a log of a new process.
func (r *rack) fillsDuringDeploy() {
	before := r.settled("shop", 1)
	version := r.get("shop")
	empty := r.fillDisk()
	out, code := r.slipway("", "env", "set", "VERSION=three", "--promote", "-a", "shop")
	if code == 0 {
		r.t.Errorf("a deployment on a full disk succeeded:\n%s", out)
	}
	contains(r.t, "env set --promote", out, "no space left on device")
	if got := r.get("shop"); got != version {
		r.t.Errorf("with a full disk the app answers %q", got)
	}
	empty()
	r.awaitState("deployment after the full disk", time.Minute, func() (string, bool) {
		out, code := r.slipway("", "env", "set", "VERSION=four", "--promote", "-a", "shop")
		return out, code == 0
	})
	if got := r.get("shop"); got != "four GET 0\n" {
		r.t.Errorf("after the disk was emptied the app answers %q", got)
	}
	if after := r.settled("shop", 1); ids(after) == ids(before) {
		r.t.Errorf("the promotion replaced nothing: %s", ids(after))
	}
}
