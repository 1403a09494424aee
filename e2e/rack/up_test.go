package rack

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// clone copies the source to a directory, as a fresh clone would have it.
func clone(t *testing.T, to string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && (rel == ".git" || rel == "bin" || rel == ".slipway"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fetch gets a URL below localhost, whatever certificate it shows.
func fetch(url string) string {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	resp, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode, " ", string(b))
}

// TestMakeUpAndDown runs the two commands of a newcomer in a fresh clone, beside whatever rack
// the machine has already.
func TestMakeUpAndDown(t *testing.T) {
	t.Parallel()
	build(t)
	tree, err := os.MkdirTemp("", "slw")
	if err != nil {
		t.Fatal(err)
	}
	dir := tree + "/.slipway"
	before := machine(t, dir)
	clone(t, tree)
	p := ports(t, 6)
	flags := fmt.Sprintf("--http %d --https %d --addr 127.0.0.1:%d --registry-addr 127.0.0.1:%d --raft-addr 127.0.0.1:%d --metrics-addr 127.0.0.1:%d",
		p[0], p[1], p[2], p[3], p[4], p[5])
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = tree
		cmd.Env = append(os.Environ(), "SLIPWAYD_FLAGS="+flags, "SLIPWAY_CONFIG="+tree+"/cli.json", "SLIPWAY_RACK=", "MAKEFLAGS=", "DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	t.Cleanup(func() {
		run("make", "clean")
		if after := machine(t, dir); after != before {
			t.Errorf("after make clean the machine has:\n%s", after)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("after make clean there is %s", dir)
		}
		if err := os.RemoveAll(tree); err != nil {
			t.Error(err)
		}
	})

	contains(t, "make down without a rack", run("make", "down"), "no rack in "+dir)
	out := run("make", "up")
	m := regexp.MustCompile(`hello answers at (\S+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("make up does not say where the app answers:\n%s", out)
	}
	contains(t, "make up", out, "bin/slipway scale", "bin/slipway why")
	contains(t, "the app", fetch(m[1]), "200 ", "Hello from Slipway")
	contains(t, "the app", fetch(m[1]+"/cgi-bin/hello"), "200 ", "this is release")

	ps := run("bin/slipway", "ps", "--all", "-a", "hello", "--json")
	contains(t, "make up once more", run("make", "up"), "Nothing was changed", m[1])
	if again := run("bin/slipway", "ps", "--all", "-a", "hello", "--json"); again != ps {
		t.Errorf("processes before the second make up:\n%s\nand after:\n%s", ps, again)
	}

	contains(t, "make down", run("make", "down"), "its data stays")
	if after := machine(t, dir); after != before {
		t.Errorf("after make down the machine has:\n%s", after)
	}
	out = run("make", "up")
	contains(t, "make up after down", out, "hello answers at "+m[1])
	if strings.Contains(out, "Packaging") {
		t.Errorf("make up after down deploys again:\n%s", out)
	}
	contains(t, "the app", fetch(m[1]), "200 ", "Hello from Slipway")
}
