package rest

import (
	"io"
	"strings"

	"slipway/api"
	"slipway/api/client"
)

// manifestDefault is the name of the manifest in a source.
const manifestDefault = "convox.yml"

func buildRoutes() []route {
	return []route{
		{
			method: "POST", path: "/apps/{app}/objects/{key...}", summary: "Upload the source of a build, a compressed tar; the answer is what a build is asked for with",
			right: rightDeploy, calls: []string{"UploadSource"}, body: "a tar compressed with gzip or zstd", answer: object{}, serve: upload,
		},
		{
			method: "GET", path: "/apps/{app}/builds", summary: "List builds, newest first", right: rightRead, calls: []string{"ListBuilds"},
			params: []param{{name: "limit", in: inQuery, kind: kindNumber, least: 1, most: 10_000, doc: "how many; 20 by default"}},
			answer: []build{}, serve: listBuilds,
		},
		{
			method: "POST", path: "/apps/{app}/builds", summary: "Begin a build of an uploaded source", right: rightDeploy, calls: []string{"HasSource", "CreateBuild"},
			params: []param{
				{name: "url", in: inForm, required: true, doc: "what the upload of the source answered"},
				{name: "description", in: inForm, doc: "shown in lists"},
				{name: "manifest", in: inForm, most: nameMax, doc: "name of the manifest in the source; convox.yml by default"},
				{name: "git-sha", in: inForm, most: nameMax, doc: "the commit that the source is of"},
				{name: "build-args", in: inForm, most: 64 << 10, doc: "NAME=value, separated by commas"},
				{name: "no-cache", in: inForm, kind: kindBool, doc: "use nothing of earlier builds"},
				{name: "development", in: inForm, kind: kindBool, doc: "build the stage named development"},
				{name: "wildcard-domain", in: inForm, kind: kindBool, doc: "not used: domains stand in the manifest"},
				{name: "external", in: inForm, missing: true, doc: "the rack builds itself"},
			},
			answer: build{}, serve: createBuild,
		},
		{
			method: "GET", path: "/apps/{app}/builds/{id}", summary: "Describe a build", right: rightRead, calls: []string{"GetBuild"},
			answer: build{}, serve: func(c *call) error {
				b, err := c.rack.Build(c, c.app(), c.text("id"))
				return c.json(buildOf(c.app(), b), err)
			},
		},
		{
			method: "GET", path: "/apps/{app}/builds/{id}.tgz", summary: "Export a build: a compressed tar of its description and its images", right: rightRead,
			calls: []string{"ExportBuild"}, answer: rawBytes, serve: func(c *call) error {
				return c.stream(func(w io.Writer) error { return c.rack.ExportBuild(c, c.app(), c.text("id"), w) })
			},
		},
		{
			method: "POST", path: "/apps/{app}/builds/import", summary: "Import a build; the answer comes when it has its release", right: rightDeploy,
			calls: []string{"ImportBuild", "WatchBuild", "GetBuild"}, body: "what the export of a build answered", answer: build{}, serve: func(c *call) error {
				b, err := c.rack.ImportBuild(c, c.app(), c.r.Body)
				return c.json(buildOf(c.app(), b), err)
			},
		},
		{
			method: socketMethod, path: "/apps/{app}/builds/{id}/logs", summary: "Follow the log of a build until it ends", right: rightRead, calls: []string{"WatchBuild"},
			params: logParams, serve: func(c *call) error {
				out := &logWriter{to: c.socket, prefix: c.flag("Prefix", false)}
				return c.rack.WatchBuild(c, c.app(), api.BuildID(c.text("id")), c.flag("Follow", true), out.lines)
			},
		},
	}
}

// upload stores a source as it comes. Its URL names app and digest, so that nothing is to be
// remembered between upload and build; the key that the client made up is not used.
func upload(c *call) error {
	if !strings.HasPrefix(c.text("key"), "tmp/") {
		return missing("the rack keeps no objects for apps; sources of builds are uploaded under tmp/")
	}
	if c.r.ContentLength == 0 {
		return api.Errorf(api.CodeInvalid, "the upload is empty; send a tar compressed with gzip or zstd")
	}
	digest, err := c.rack.UploadSource(c, c.app(), c.r.Body)
	return c.json(object{objectScheme + string(c.app()) + "/" + digest}, err)
}

func listBuilds(c *call) error {
	list, err := c.rack.Builds(c, c.app())
	list = list[:min(len(list), c.number("limit", listMax))]
	return c.json(all(list, func(b api.BuildInfo) build { return buildOf(c.app(), b) }), err)
}

func createBuild(c *call) error {
	digest, err := parseObject(c.text("url"), c.app())
	if err != nil {
		return err
	}
	args, err := parseBuildArgs(c.text("build-args"))
	if err != nil {
		return err
	}
	name := c.text("manifest")
	if name == "" {
		name = manifestDefault
	}
	// The call also asks whether the caller may use sources of the app at all.
	has, err := c.rack.HasSource(c, c.app(), digest)
	if err == nil && !has {
		err = api.Errorf(api.CodeNotFound, "the source of url is not there any more; upload it again")
	}
	if err != nil {
		return err
	}
	text, err := c.manifest(digest, name)
	if err != nil {
		return err
	}
	b, err := c.rack.CreateBuild(c, c.app(), client.Build{
		Source: digest, Manifest: text, ManifestFile: name, Description: c.text("description"), GitSHA: c.text("git-sha"),
		Options: api.BuildOptions{Args: args, NoCache: c.flag("no-cache", false), Development: c.flag("development", false)},
	})
	return c.json(buildOf(c.app(), b), err)
}

// parseBuildArgs reads NAME=value,NAME=value. A part without "=" belongs to the value before it,
// which had a comma.
func parseBuildArgs(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	args, last := map[string]string{}, ""
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		switch {
		case ok && name != "":
			last, args[name] = name, value
		case last != "":
			args[last] += "," + part
		default:
			return nil, api.Errorf(api.CodeInvalid, "parameter build-args: %q is not of the form NAME=value", clip(part))
		}
	}
	return args, nil
}
