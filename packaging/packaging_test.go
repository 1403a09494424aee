package packaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// command runs a program at the root of the repository and returns what it printed.
func command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return string(out), nil
}

func mustRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func needs(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); errors.Is(err, exec.ErrNotFound) {
		t.Skipf("%s is not installed (Debian: %s)", program, debian)
	}
}

// TestUnits lets systemd read the units, and looks at what keeps containers alive.
func TestUnits(t *testing.T) {
	needs(t, "systemd-analyze", "systemd")
	dir := t.TempDir()
	for _, name := range []string{"slipway-server.service", "slipway-agent.service"} {
		text, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"KillMode=process", "Restart=always", "StartLimitIntervalSec=0", "LimitNOFILE=1048576", "OOMScoreAdjust=-900", "WantedBy=multi-user.target"} {
			if !bytes.Contains(text, []byte("\n"+line+"\n")) {
				t.Errorf("%s does not say %s", name, line)
			}
		}
		if name == "slipway-agent.service" {
			if m := regexp.MustCompile(`(?m)^(Private|Protect|ReadWritePaths|ReadOnlyPaths|InaccessiblePaths|RootDirectory|MountFlags|TemporaryFileSystem)[A-Za-z]*=`).Find(text); m != nil {
				t.Errorf("%s: %s gives the agent mounts of its own, which containerd does not see", name, m)
			}
			if !bytes.Contains(text, []byte("\nDelegate=yes\n")) {
				t.Errorf("%s does not delegate its control group", name)
			}
		}
		// The program need not be installed here.
		text = bytes.ReplaceAll(text, []byte("=/usr/bin/slipwayd "), []byte("=/bin/true "))
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
		if out := mustRun(t, "systemd-analyze", "verify", filepath.Join(dir, name)); out != "" {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestVersions: packages of later commits are newer than those of earlier ones.
func TestVersions(t *testing.T) {
	needs(t, "dpkg-deb", "dpkg")
	bin, out := fakeBinaries(t), t.TempDir()
	var last string
	for _, git := range []string{"d8354a0", "v0.3.0-rc1", "v0.3.0", "v0.3.0-5-gd8354a0", "v0.3.0-12-g1234567-dirty", "v0.3.1", "0.10"} {
		path := strings.TrimSpace(mustRun(t, "scripts/deb.sh", git, bin, out))
		version := strings.TrimSpace(mustRun(t, "dpkg-deb", "-f", path, "Version"))
		if last != "" {
			if _, err := command(t.Context(), "dpkg", "--compare-versions", last, "lt", version); err != nil {
				t.Errorf("%s is not newer than %s", version, last)
			}
		}
		last = version
	}
}

// fakeBinaries are programs that only say their names.
func fakeBinaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"slipway", "slipwayd", "sliplog"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho "+name+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDeb makes the package with the real binaries, looks into it, and takes it out and runs it.
func TestDeb(t *testing.T) {
	needs(t, "dpkg-deb", "dpkg")
	needs(t, "make", "make")
	if testing.Short() {
		t.Skip("builds all binaries")
	}
	out := t.TempDir()
	mustRun(t, "make", "--no-print-directory", "deb", "VERSION=v9.8.7-test", "OUT="+out)
	path := filepath.Join(out, "slipway_9.8.7+test_"+strings.TrimSpace(mustRun(t, "dpkg", "--print-architecture"))+".deb")
	info := mustRun(t, "dpkg-deb", "-I", path)
	for _, part := range []string{"Package: slipway\n", "Version: 9.8.7+test\n", "containerd (>= 1.6)", "nftables", " conffiles", " postinst", " prerm", " postrm"} {
		if !strings.Contains(info, part) {
			t.Errorf("the package does not say %q:\n%s", part, info)
		}
	}
	content := mustRun(t, "dpkg-deb", "-c", path)
	for _, part := range []string{
		"-rwxr-xr-x root/root", "./usr/bin/slipway\n", "./usr/bin/slipwayd\n", "./usr/bin/sliplog\n", "./lib/systemd/system/slipway-server.service\n",
		"./lib/systemd/system/slipway-agent.service\n", "drwx------ root/root", "./etc/slipway/server.env\n", "./usr/share/doc/slipway/operate.md\n",
		"./usr/share/slipway/prometheus/alerts.yml\n", "./usr/share/slipway/grafana/slipway.json\n", "./usr/share/bash-completion/completions/slipway\n",
	} {
		if !strings.Contains(content, part) {
			t.Errorf("the package does not have %q", part)
		}
	}
	root := t.TempDir()
	mustRun(t, "dpkg-deb", "-x", path, root)
	// Whoever runs the test may be logged in to a rack.
	for name, value := range map[string]string{"SLIPWAY_CONFIG": filepath.Join(out, "config.json"), "SLIPWAY_ADDR": "", "SLIPWAY_RACK": ""} {
		t.Setenv(name, value)
	}
	for program, arg := range map[string]string{"slipwayd": "--version", "slipway": "version"} {
		if got := mustRun(t, filepath.Join(root, "usr/bin", program), arg); !strings.Contains(got, "v9.8.7-test") {
			t.Errorf("%s %s says %q", program, arg, got)
		}
	}
}

// machine is a root directory with a package database, whose systemctl only takes notes.
type machine struct {
	t    *testing.T
	root string
}

func (m *machine) dpkg(args ...string) string {
	m.t.Helper()
	return mustRun(m.t, "dpkg", append([]string{"--root=" + m.root, "--force-script-chrootless", "--force-depends", "--force-confdef", "--force-confold", "--log=/dev/null"}, args...)...)
}

func (m *machine) read(name string) string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

func (m *machine) has(name string) bool {
	_, err := os.Stat(filepath.Join(m.root, name))
	return !errors.Is(err, fs.ErrNotExist)
}

// TestInstall installs the package into a root of its own, upgrades, removes and purges it: what
// the operator has written stays as long as it should, and data always.
func TestInstall(t *testing.T) {
	needs(t, "dpkg-deb", "dpkg")
	if os.Geteuid() != 0 {
		t.Skip("dpkg needs root to install")
	}
	bin, out := fakeBinaries(t), t.TempDir()
	var debs []string
	for _, version := range []string{"1.0", "1.1"} {
		debs = append(debs, strings.TrimSpace(mustRun(t, "scripts/deb.sh", version, bin, out)))
	}
	m := &machine{t: t, root: t.TempDir()}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(m.root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if said := m.dpkg("-i", debs[0]); !strings.Contains(said, "slipwayd check") || !strings.Contains(said, "operate.md") {
		t.Errorf("it does not say what comes next: %s", said)
	}
	info, err := os.Stat(filepath.Join(m.root, "var/lib/slipway"))
	if err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("data directory: %v, %v", info, err)
	}
	edited := "SLIPWAY_START=--join 10.0.0.11:7420\n"
	for name, text := range map[string]string{"etc/slipway/server.env": edited, "etc/slipway/join-server.token": "secret", "var/lib/slipway/raft": "data"} {
		if err := os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.dpkg("-i", debs[1])
	if got := m.read("etc/slipway/server.env"); got != edited {
		t.Errorf("an upgrade changed server.env to %q", got)
	}
	m.dpkg("-r", "slipway")
	if m.has("usr/bin/slipwayd") || m.read("etc/slipway/server.env") != edited || m.read("etc/slipway/join-server.token") != "secret" {
		t.Error("removed: the program is there, or what the operator wrote is not")
	}
	if said := m.dpkg("-P", "slipway"); !strings.Contains(said, "/var/lib/slipway stays") {
		t.Errorf("purged: it does not say that data stays: %s", said)
	}
	if m.has("etc/slipway") || m.read("var/lib/slipway/raft") != "data" {
		t.Error("purged: the configuration is there, or the data is not")
	}
}

// TestScriptsStopNoContainer runs the scripts of the package with a systemctl that takes notes,
// and looks for anything that could end a process.
func TestScriptsStopNoContainer(t *testing.T) {
	for _, c := range []struct {
		script string
		args   []string
		want   []string
	}{
		{"postinst", []string{"configure", ""}, []string{"daemon-reload"}},
		{"postinst", []string{"configure", "1.0"}, []string{"daemon-reload", "try-restart slipway-server.service slipway-agent.service"}},
		{"prerm", []string{"upgrade", "1.1"}, nil},
		{"prerm", []string{"remove"}, []string{"stop slipway-agent.service slipway-server.service"}},
		{"postrm", []string{"upgrade", "1.1"}, []string{"daemon-reload"}},
	} {
		text, err := os.ReadFile(filepath.Join("deb", c.script))
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`\b(kill|pkill|killall|slipwayd down --now|ctr|containerd)\b`).Find(text); m != nil {
			t.Errorf("%s: it says %s", c.script, m)
		}
		dir := t.TempDir()
		notes := filepath.Join(dir, "notes")
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\necho \"$*\" >>"+notes+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		// Of this machine the script is to see neither its systemd nor its files.
		text = bytes.ReplaceAll(text, []byte("/run/systemd/system"), []byte(dir))
		text = bytes.ReplaceAll(text, []byte("${DPKG_ROOT:-}/"), []byte(dir+"/"))
		text = bytes.ReplaceAll(text, []byte(`"${DPKG_ROOT:-}"`), []byte(`""`))
		file := filepath.Join(dir, c.script)
		if err := os.WriteFile(file, text, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), file, c.args...)
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s %q: %v: %s", c.script, c.args, err, said)
		}
		noted, err := os.ReadFile(notes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if got := strings.FieldsFunc(string(noted), func(r rune) bool { return r == '\n' }); !slices.Equal(got, c.want) {
			t.Errorf("%s %q: systemctl %q, want %q", c.script, c.args, got, c.want)
		}
	}
}
