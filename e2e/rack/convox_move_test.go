package rack

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// moves takes a build to another app, where it runs.
func (c *convox) moves(build thing) {
	archive := c.call("GET", "/apps/shop/builds/"+build.ID+".tgz", nil)
	c.call("POST", "/apps", url.Values{"name": {"copy"}})
	moved := c.importBuild("copy", archive)
	if moved.ID == build.ID || moved.Description != "cibuild" {
		c.t.Errorf("build %+v came as %+v", build, moved)
	}
	if got := c.get("/apps/copy/releases/" + moved.Release); got.Build != moved.ID || !strings.Contains(got.Manifest, "build: .") {
		c.t.Errorf("its release is %+v", got)
	}
	c.promote("copy", moved.Release)
	if got := c.rack.get("copy"); got != "one GET 0\n" {
		c.t.Errorf("the copy answers %q", got)
	}
	c.deleted("copy")
}

// importBuild is "convox builds import".
func (c *convox) importBuild(app, archive string) thing {
	c.t.Helper()
	status, text := c.try("POST", "/apps/"+app+"/builds/import", "application/octet-stream", strings.NewReader(archive))
	if status != http.StatusOK {
		c.t.Fatalf("import of a build: %d %s", status, text)
	}
	return answerOf[thing](c, text)
}

// deleted is "convox apps delete", and waits as it does.
func (c *convox) deleted(app string) {
	c.t.Helper()
	c.call("DELETE", "/apps/"+app, nil)
	c.awaitState("end of app "+app, 30*time.Second, func() (string, bool) {
		status, text := c.try("GET", "/apps/"+app, "", nil)
		return text, status == http.StatusNotFound && strings.HasPrefix(text, "no such app")
	})
}

// archives takes an app out of the rack and back: with the requests of "convox apps export" and
// "import", with slipway, and from each to the other.
func (c *convox) archives() {
	env := c.setEnv("shop", map[string]string{"VERSION": "moved"})
	c.promote("shop", env)
	file := filepath.Join(c.dir, "moved.tgz")
	writeFile(c.t, file, c.exportApp("shop"))
	c.must("", "apps", "import", "second", "-f", file)
	if got := c.rack.get("second"); got != "moved GET 0\n" {
		c.t.Errorf("slipway made an app that answers %q", got)
	}
	c.must("", "apps", "export", "second", "-f", file)
	c.deleted("second")
	c.importApp("third", readFile(c.t, file))
	if got := c.rack.get("third"); got != "moved GET 0\n" {
		c.t.Errorf("convox made an app that answers %q", got)
	}
	c.deleted("third")
}

// exportApp is "convox apps export".
func (c *convox) exportApp(app string) string {
	c.t.Helper()
	files := []string{"app.json", c.call("GET", "/apps/"+app, nil)}
	r := c.get("/apps/" + app + "/releases/" + c.get("/apps/"+app).Release)
	files = append(files, "env", r.Env, "build.tgz", c.call("GET", "/apps/"+app+"/builds/"+r.Build+".tgz", nil))
	if list := c.list("/apps/" + app + "/resources"); len(list) > 0 {
		c.t.Errorf("resources %+v", list)
	}
	return packed(c.t, files...)
}

// importApp is "convox apps import": the app, the build, the environment, the promotion.
func (c *convox) importApp(app, archive string) {
	c.t.Helper()
	z, err := gzip.NewReader(strings.NewReader(archive))
	if err != nil {
		c.t.Fatal(err)
	}
	files := map[string]string{}
	in := tar.NewReader(z)
	h, err := in.Next()
	for ; err == nil; h, err = in.Next() {
		text, err := io.ReadAll(in)
		if err != nil {
			c.t.Fatal(err)
		}
		files[h.Name] = string(text)
	}
	var described struct {
		Generation string
		Parameters map[string]string
	}
	if err := json.Unmarshal([]byte(files["app.json"]), &described); err != nil || len(described.Parameters) > 0 {
		c.t.Fatalf("app.json is %q, %v", files["app.json"], err)
	}
	c.call("POST", "/apps", url.Values{"name": {app}, "generation": {described.Generation}})
	c.settled(app)
	c.importBuild(app, files["build.tgz"])
	release := answerOf[thing](c, c.call("POST", "/apps/"+app+"/releases", url.Values{"env": {files["env"]}}))
	c.promote(app, release.ID)
}

// registries gives the rack a login, sees it in the list, and takes it back.
func (c *convox) registries() {
	form := url.Values{"server": {"registry.example.com"}, "username": {"ann"}, "password": {"canary"}}
	c.call("POST", "/registries", form)
	if got, want := c.call("GET", "/registries", nil), `[{"server":"registry.example.com","username":"ann","password":""}]`; strings.TrimSpace(got) != want {
		c.t.Errorf("registries %s, want %s", got, want)
	}
	c.call("DELETE", "/registries/registry.example.com", nil)
	if list := c.list("/registries"); len(list) != 0 {
		c.t.Errorf("registries %+v after the removal", list)
	}
	contains(c.t, "rack logs", c.socket("/system/logs", "", "Follow", "false", "Since", "30m0s"), "service/rack/registry.example.com registry.added user ann by jwt-admin-", "registry.removed user ann")
}
