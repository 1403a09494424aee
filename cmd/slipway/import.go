package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
	"slipway/manifest"
)

// importFlags say how an app is imported.
type importFlags struct {
	source            string
	env               []string
	promote, wait     bool
	dryRun, confirmed bool
}

func (s *shell) importCommand() *cobra.Command {
	c := s.verb(verb{
		use: "import", short: "Take over apps from other platforms", example: "  slipway import convox shop.tgz --dry-run",
		long: "Take over apps from other platforms.",
		run: func(context.Context, []string) error {
			return usage("import takes: convox FILE; see: slipway import --help")
		},
	})
	f := importFlags{}
	convox := s.verb(verb{
		use: "convox FILE", short: "Make an app of an archive that Convox wrote", args: between(1, 1),
		long: "Make an app of a file that `convox apps export -f FILE` wrote: the app, its environment and a release with the\n" +
			"images of its last build, which is deployed. First it says what it will do, what it leaves out and why, and\n" +
			"asks; --dry-run ends there. With --source, the release is built from a directory instead of the images.\n" +
			"The URL of a database is given with --env: its data moves by the means of the database.",
		example: "  slipway import convox shop.tgz --dry-run\n  slipway import convox shop.tgz --env DATABASE_URL=postgres://db.example.com/shop\n" +
			"  slipway import convox shop.tgz -a store --source . --yes",
		run: func(ctx context.Context, args []string) error { return s.importConvox(ctx, args[0], f) },
	})
	f.add(convox)
	convox.Flags().BoolVarP(&f.confirmed, "yes", "y", false, "do not ask")
	c.AddCommand(convox)
	return c
}

func (f *importFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.source, "source", "", "build this directory instead of taking the images")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "a variable to set beside those of the archive, NAME=VALUE; may be repeated")
	flags.BoolVarP(&f.promote, "promote", "p", true, "deploy the release")
	flags.BoolVarP(&f.wait, "wait", "w", true, "wait until the deployment has ended")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and do nothing")
}

// importPlan is what an import does, and what it does not.
type importPlan struct {
	App   api.AppName `json:"app"`
	Steps []string    `json:"steps"`
	Left  []leftOut   `json:"left_out"`
	// Missing are variables that must have a value first, with who wants it.
	Missing map[string]string `json:"missing,omitempty"`

	archive exported
	env     map[string]string
	source  manifestFile // of --source, or of the archive
	specs   []api.ServiceSpec
	builds  bool
}

// leftOut is something of an app that is not taken over.
type leftOut struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

func (s *shell) importConvox(ctx context.Context, file string, f importFlags) error {
	p, err := s.planImport(file, f)
	if err != nil {
		return err
	}
	rack, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if err := importable(ctx, rack, p.App); err != nil {
		return err
	}
	if err := s.printImportPlan(p, f.dryRun); err != nil {
		return err
	}
	if len(p.Missing) > 0 {
		name := slices.Sorted(maps.Keys(p.Missing))[0]
		return usage("%s of app %s has no value: %s; give it one: --env %s=...", name, p.App, p.Missing[name], name)
	}
	if f.dryRun {
		return nil
	}
	if !f.confirmed {
		if err := s.confirm(ctx, fmt.Sprintf("Import app %s?", p.App)); err != nil {
			return err
		}
	}
	return s.runImport(ctx, rack, file, p, f)
}

// importable refuses an app that has something to lose. One that was just created, by an import
// that failed, has not.
func importable(ctx context.Context, rack *client.Client, app api.AppName) error {
	builds, err := rack.Builds(ctx, app)
	if api.CodeOf(err) == api.CodeNotFound {
		return nil
	}
	if err != nil || len(builds) == 0 {
		return err
	}
	return api.Errorf(api.CodeConflict, "app %q exists already and has builds; choose another name with -a, or deploy to it: slipway deploy -a %s", app, app)
}

// planImport reads an archive and decides what becomes of it.
func (s *shell) planImport(file string, f importFlags) (*importPlan, error) {
	a, err := openArchive(file)
	if err != nil {
		return nil, err
	}
	p := &importPlan{App: api.AppName(orElse(s.appFlag, a.App.Name)), archive: a, env: map[string]string{}, Missing: map[string]string{}, Left: []leftOut{}}
	if err := api.CheckName("app", string(p.App)); err != nil {
		return nil, usage("%w; name the app with -a", err)
	}
	maps.Copy(p.env, a.Env)
	for i, arg := range f.env {
		if !setVariable(p.env, arg) {
			return nil, usage("--env number %d is not of the form NAME=VALUE", i+1)
		}
	}
	p.source = manifestFile{name: "convox.yml", text: a.Build.Manifest}
	if f.source != "" {
		if p.source, err = readManifest(f.source, ""); err != nil {
			return nil, err
		}
	}
	p.builds = p.source.text != ""
	if p.builds {
		if err := p.readManifest(); err != nil {
			return nil, err
		}
	}
	p.plan(f)
	return p, nil
}

// readManifest finds out what the services are, what they need, and what of them does not act.
func (p *importPlan) readManifest() error {
	m, err := manifest.Load(p.source.text, manifest.Options{Env: p.env, SkipRequired: true, AllowPrivileged: true})
	if err != nil {
		return fmt.Errorf("%s of app %s: %w", p.source.name, p.App, err)
	}
	if p.specs = m.Specs(); len(p.specs) == 0 {
		return api.Errorf(api.CodeInvalid, "%s of app %s has no services; manifests of generation 1 (docker-compose) are not read: write a convox.yml and give --source DIR", p.source.name, p.App)
	}
	for _, name := range m.Missing {
		p.Missing[name] = "the manifest requires it"
	}
	for _, r := range m.Resources {
		if !r.Given {
			name := strings.ToUpper(strings.ReplaceAll(string(r.Name), "-", "_")) + "_URL"
			p.Missing[name] = fmt.Sprintf("it is the URL of resource %s (%s), which the rack does not run", r.Name, r.Type)
		}
	}
	for _, path := range m.NotActing {
		p.leave(path, "understood and kept in the manifest; it has no effect yet")
	}
	return nil
}

func (p *importPlan) leave(what, why string) { p.Left = append(p.Left, leftOut{what, why}) }

// plan says what is done and what is left out.
func (p *importPlan) plan(f importFlags) {
	do := func(format string, args ...any) { p.Steps = append(p.Steps, fmt.Sprintf(format, args...)) }
	do("create the app %s", p.App)
	if len(p.env) > 0 {
		do("set %s: %s", count(len(p.env), "variable"), strings.Join(slices.Sorted(maps.Keys(p.env)), " "))
	}
	switch {
	case !p.builds:
	case f.source == "":
		do("take over the images of build %s: %s", p.archive.Build.ID, strings.Join(specNames(p.specs), ", "))
	default:
		do("build the source in %s: %s", f.source, strings.Join(specNames(p.specs), ", "))
	}
	if p.builds && f.promote {
		do("deploy the release")
	}
	for _, name := range slices.Sorted(maps.Keys(p.archive.App.Parameters)) {
		p.leave("parameter "+name, "apps have no parameters; what acts stands in the manifest")
	}
	for _, name := range p.archive.Dumps {
		p.leave("data of resource "+name, "the rack runs no databases yet; move it by the means of the database")
	}
	if p.archive.App.Locked {
		p.leave("lock", "an app that is moved may have to be deleted again; lock it: slipway apps lock -a "+string(p.App))
	}
	if !p.builds {
		p.leave("release", "the archive has no build; deploy the source: slipway deploy -a "+string(p.App))
	}
	p.leave("address", "services answer at SERVICE."+string(p.App)+".<domain of the rack>; their own domains follow when they point to the rack")
}

func specNames(specs []api.ServiceSpec) (out []string) {
	for _, spec := range specs {
		out = append(out, string(spec.Name))
	}
	return out
}

func (s *shell) printImportPlan(p *importPlan, only bool) error {
	if s.json {
		if !only {
			return nil // the answer is what comes of it
		}
		return s.document(p)
	}
	var rows [][]string
	for i, step := range p.Steps {
		rows = append(rows, []string{fmt.Sprintf("%d.", i+1), step})
	}
	if err := s.table([]string{"STEP", "WHAT"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, l := range p.Left {
		rows = append(rows, []string{l.What, l.Why})
	}
	if err := s.answer(""); err != nil {
		return err
	}
	return s.table([]string{"LEFT OUT", "WHY"}, rows)
}

// runImport does what was planned.
func (s *shell) runImport(ctx context.Context, rack *client.Client, file string, p *importPlan, f importFlags) error {
	if err := s.ensureExact(ctx, rack, p.App); err != nil {
		return err
	}
	if len(p.env) > 0 {
		err := s.step("Setting "+count(len(p.env), "variable"), func() (string, error) {
			r, err := rack.SetEnv(ctx, p.App, client.EnvChange{Set: p.env, Replace: true})
			return string(r.ID), err
		})
		if err != nil {
			return err
		}
	}
	if !p.builds {
		info, err := rack.App(ctx, p.App)
		if err != nil {
			return err
		}
		return s.print(info, nothing)
	}
	if f.source != "" {
		b, err := s.build(ctx, rack, p.App, f.source, &buildFlags{manifest: p.source.name, description: "import of " + oneLine(filepath.Base(file)), promote: f.promote})
		if err != nil {
			return err
		}
		if f.promote {
			return s.afterBuild(ctx, rack, p.App, b, promotion{wait: f.wait})
		}
		return s.afterImport(p.App, b)
	}
	b, err := s.sendBuild(ctx, rack, p.App, file)
	if err != nil {
		return err
	}
	if f.promote {
		return s.promote(ctx, rack, p.App, string(b.Release), promotion{wait: f.wait})
	}
	return s.afterImport(p.App, b)
}

func (s *shell) afterImport(app api.AppName, b api.BuildInfo) error {
	return s.print(b, func() error { return s.answer("Deploy it: slipway promote -a " + string(app)) })
}

// sendBuild gives the build of an archive to the rack.
func (s *shell) sendBuild(ctx context.Context, rack *client.Client, app api.AppName, file string) (b api.BuildInfo, err error) {
	err = s.step("Sending the images of "+oneLine(filepath.Base(file)), func() (string, error) {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read the archive: %w", err)
		}
		defer f.Close()
		return "", eachFile(f, func(name string, r io.Reader) (err error) {
			if name == buildArchive {
				b, err = rack.ImportBuild(ctx, app, r)
			}
			return err
		})
	})
	if err != nil {
		return b, err
	}
	s.say("Build:   %s", b.ID)
	s.say("Release: %s", b.Release)
	return b, nil
}

// ensureExact creates an app unless it is there.
func (s *shell) ensureExact(ctx context.Context, rack *client.Client, app api.AppName) error {
	return s.step("Creating "+string(app), func() (string, error) {
		_, err := rack.CreateApp(ctx, app)
		if api.CodeOf(err) == api.CodeConflict {
			return "it is there", nil
		}
		return "", err
	})
}
