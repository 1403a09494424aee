package buildtest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"slipway/api"
)

func TestBuildPushAndCache(t *testing.T) {
	t.Parallel()
	r := newRack(t)
	b := newBuilder(t, r)
	printed := regexp.MustCompile(`#\d+ red round\n`)
	s := source{
		"Dockerfile": "# syntax=docker.io/evil/frontend\nFROM busybox AS build\nARG COLOR\nARG SHAPE=round\nCOPY . /src\nRUN echo $COLOR $SHAPE $HIDDEN > /out && cat /out\n" +
			"FROM busybox AS development\nRUN echo dev > /kind\nFROM scratch\nCOPY --from=build /out /out\nCMD [\"/out\"]\n",
		"main.txt": "hello",
	}
	j, out := job(s)
	j.Build.Args = map[string]string{"COLOR": "red", "HIDDEN": "canary"}

	images, err := b.Build(t.Context(), j)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	first := images["web"]
	if first.Repository != "hello" || !strings.HasPrefix(first.Digest, "sha256:") || first.Size <= 0 {
		t.Fatalf("image: %+v", first)
	}
	if !printed.MatchString(out.String()) || strings.Contains(out.String(), "canary") {
		t.Fatalf("args did not arrive, or too many:\n%s", out)
	}
	if d, err := r.ResolveTag(t.Context(), "hello", "web.BTESTTESTTE"); err != nil || d != first.Digest {
		t.Fatalf("tag leads to %q, %v", d, err)
	}

	j, out = job(s)
	j.Build.Args = map[string]string{"COLOR": "red"}
	again, err := b.Build(t.Context(), j)
	if err != nil || again["web"].Digest != first.Digest {
		t.Fatalf("same source again: %+v, %v\n%s", again, err, out)
	}
	if !strings.Contains(out.String(), "cached") || printed.MatchString(out.String()) {
		t.Fatalf("second build was not cached:\n%s", out)
	}

	j, out = job(s)
	j.Build.Options = api.BuildOptions{Development: true, NoCache: true}
	dev, err := b.Build(t.Context(), j)
	if err != nil || dev["web"].Digest == first.Digest || !strings.Contains(out.String(), "echo dev") {
		t.Fatalf("development stage: %+v, %v\n%s", dev, err, out)
	}
}

func TestServicesShareBuildsAndMirror(t *testing.T) {
	t.Parallel()
	r := newRack(t)
	b := newBuilder(t, r)
	same := &api.BuildSpec{Path: "app", Dockerfile: "Dockerfile"}
	spelled := &api.BuildSpec{Path: "./app/", Dockerfile: "Dockerfile"}
	other := &api.BuildSpec{Path: "app", Dockerfile: "Dockerfile", Target: "base", Args: []string{"WHO=manifest"}}
	j, out := job(source{"app/Dockerfile": "FROM library/busybox AS base\nARG WHO=x\nRUN echo who=$WHO\nFROM base\nRUN touch /last\n"},
		api.ServiceSpec{Name: "web", Build: same}, api.ServiceSpec{Name: "worker", Build: spelled},
		api.ServiceSpec{Name: "base", Build: other}, api.ServiceSpec{Name: "cache", Image: "busybox"})

	got, err := b.Build(t.Context(), j)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got["web"] != got["worker"] || got["web"] == got["base"] || len(got) != 4 {
		t.Fatalf("images: %+v", got)
	}
	if n := strings.Count(out.String(), "building "); n != 2 {
		t.Fatalf("%d builds, want 2:\n%s", n, out)
	}
	if !strings.Contains(out.String(), "who=manifest") {
		t.Fatalf("args of the manifest did not arrive:\n%s", out)
	}
	busybox, err := r.ResolveTag(t.Context(), "library/busybox", "latest")
	if err != nil || got["cache"].Digest != busybox || got["cache"].Repository != "hello" {
		t.Fatalf("mirrored %+v, want digest %s, %v", got["cache"], busybox, err)
	}
}

func TestErrorsTellWhatToDo(t *testing.T) {
	t.Parallel()
	b := newBuilder(t, newRack(t))
	for _, c := range []struct {
		name, dockerfile string
		code             api.Code
		want             []string
	}{
		{"step", "FROM busybox\nRUN echo one\nRUN echo to the log; exit 3\n", api.CodeInvalid,
			[]string{"Dockerfile line 3 (RUN echo to the log; exit 3)", "exit code 3", "\n  to the log"}},
		{"memory", "FROM busybox\nRUN tail -c 600m /dev/zero | wc -c; dd if=/dev/zero of=/dev/null bs=600M count=1\n", api.CodeInvalid,
			[]string{"line 2", "ran out of memory"}},
		{"missing base", "FROM rack.internal/library/nothing:1\n", api.CodeInvalid, []string{"line 1", "image rack.internal/library/nothing:1 was not found"}},
		{"syntax", "FROM busybox\nRUMBLE x\n", api.CodeInvalid, []string{"line 2", "RUMBLE"}},
		{"other app", "FROM rack.internal/other\n", api.CodeDenied, []string{"another app"}},
		{"host network", "FROM busybox\nRUN --network=host true\n", api.CodeInvalid, []string{"network.host"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, out := job(source{"Dockerfile": c.dockerfile})
			_, err := b.Build(t.Context(), j)
			if api.CodeOf(err) != c.code {
				t.Fatalf("code %q, want %q: %v\n%s", api.CodeOf(err), c.code, err, out)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in: %v", w, err)
				}
			}
		})
	}

	j, _ := job(source{"x": "y"})
	if _, err := b.Build(t.Context(), j); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "no Dockerfile in the source") {
		t.Errorf("without a Dockerfile: %v", err)
	}
}

func TestStepsReachOutsideOnly(t *testing.T) {
	t.Parallel()
	b := newBuilder(t, newRack(t))
	port := serveSecret(t)
	j, out := job(source{"Dockerfile": fmt.Sprintf(`FROM busybox
RUN ip -4 addr show eth0 && cat /etc/resolv.conf
RUN for a in 127.0.0.1 10.254.0.1 169.254.169.254; do if wget -qO- http://$a:%s/; then exit 9; fi; done
RUN ! nc 127.0.0.1 %s </dev/null
`, port, port)})
	if _, err := b.Build(t.Context(), j); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(out.String(), "host-secret") {
		t.Fatalf("a step read the machine's loopback:\n%s", out)
	}
	j, out = job(source{"Dockerfile": fmt.Sprintf("FROM busybox\nADD http://127.0.0.1:%s/x /x\nRUN cat /x\n", port)})
	if _, err := b.Build(t.Context(), j); err == nil || strings.Contains(out.String(), "host-secret") {
		t.Fatalf("ADD read the machine's loopback: %v\n%s", err, out)
	}
}
