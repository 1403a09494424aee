package rack

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/e2e/bench"
)

// TestBench measures a real rack. It runs with SLIPWAY_BENCH set to the file for the rows.
func TestBench(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH")
	r := start(t)
	r.scale = "      cpu: 50\n      memory: 64\n"
	r.must("", "deploy", r.source("shop", 1, ""), "-a", "shop")
	t.Run("idle", func(*testing.T) { idle(r, rows) })
	floor := startFloor(t, r)
	t.Run("deploy", func(t *testing.T) { deploys(t, r, rows, floor) })
	t.Run("edit", func(t *testing.T) { edits(t, r, rows) })
	t.Run("router", func(t *testing.T) { routers(t, r, rows) })
	t.Run("logs", func(t *testing.T) { logs(t, r, rows) })
}

// idle reads what the daemon takes while nothing happens.
func idle(r *rack, rows *bench.Report) {
	pid := r.daemon.Process.Pid
	const span = 10 * time.Second
	before := cpuTime(pid)
	time.Sleep(span) // the measured time
	percent := 100 * float64(cpuTime(pid)-before) / float64(span)
	rows.Add("idle_rss_mb", rss(pid), "MB", "limit", 120, "slipwayd dev, one app; without router and containerd")
	rows.Add("idle_cpu_percent", percent, "%", "limit", 1, "of one core, over 10 s")
}

// startFloor is the median time of `ctr run` until the same image answers on its port.
func startFloor(t *testing.T, r *rack) time.Duration {
	t.Helper()
	socket, namespace := engineOf(t, r)
	image := strings.Fields(ctr(t, socket, "-n", namespace, "images", "ls", "-q"))[0]
	var times []time.Duration
	for i := range 7 {
		port := ports(t, 1)[0]
		id := fmt.Sprintf("floor%d", i)
		began := time.Now()
		ctr(t, socket, "-n", namespace, "run", "-d", "--net-host", "--env", fmt.Sprintf("PORT=%d", port), image, id)
		for {
			if resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/check", port)); err == nil {
				resp.Body.Close()
				break
			}
			time.Sleep(time.Millisecond) // polls
		}
		times = append(times, time.Since(began))
		ctr(t, socket, "-n", namespace, "task", "rm", "-f", id)
		ctr(t, socket, "-n", namespace, "container", "rm", id)
	}
	return bench.Median(times)
}

func ctr(t *testing.T, socket string, args ...string) string {
	t.Helper()
	out, err := exec.Command("ctr", append([]string{"-a", socket}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func firstMatch(t *testing.T, file, pattern string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(pattern).FindSubmatch(b)
	if m == nil {
		t.Fatalf("%s does not match %s", file, pattern)
	}
	return string(m[1])
}

func deploys(t *testing.T, r *rack, rows *bench.Report, floor time.Duration) {
	client := r.client()
	var times []time.Duration
	for i := range 7 {
		version := fmt.Sprintf("bench%d", i)
		r.must("", "env", "set", "VERSION="+version, "-a", "shop")
		settled(t, r, 1)
		began := time.Now()
		r.must("", "releases", "promote", "--wait=false", "-a", "shop")
		for {
			resp, err := client.Get(r.url("shop") + "/")
			if err == nil {
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if strings.HasPrefix(string(b), version+" ") {
					break
				}
			}
			time.Sleep(2 * time.Millisecond) // polls
		}
		times = append(times, time.Since(began))
	}
	rows.Add("deploy_over_floor", bench.Median(times).Seconds(), "s", "ctr run until the port answers", floor.Seconds(), "median of 7, promote by CLI to first answer of the new version")

	src := filepath.Join(r.dir, "shop")
	settled(t, r, 1)
	began := time.Now()
	r.must("", "deploy", src, "-a", "shop")
	rows.Add("redeploy_unchanged_s", time.Since(began).Seconds(), "s", "limit", 2, "whole deploy, nothing changed, old copy drained and stopped")

	const copies = 10
	r.source("shop", copies, "    deployment:\n      minimum: 100\n      maximum: 110\n")
	r.must("", "deploy", src, "-a", "shop")
	r.must("", "env", "set", "VERSION=rolled", "-a", "shop")
	settled(t, r, copies)
	began = time.Now()
	r.must("", "releases", "promote", "-a", "shop")
	rows.Add("roll_over_floor", time.Since(began).Seconds(), "s", "start floor x 10 batches", copies*floor.Seconds(), "10 copies, one at a time and never fewer, to the end of the last old one")
}

// settled waits until the engine holds the copies of the app and nothing of those before.
func settled(t *testing.T, r *rack, copies int) {
	t.Helper()
	socket, namespace := engineOf(t, r)
	r.await("engine at rest", time.Minute, func() bool {
		return len(strings.Fields(ctr(t, socket, "-n", namespace, "containers", "ls", "-q"))) == copies
	})
}

// engineOf is where the rack's containerd listens, and its namespace.
func engineOf(t *testing.T, r *rack) (socket, namespace string) {
	t.Helper()
	socket = strings.TrimSpace(firstMatch(t, r.dir+"/rack/containerd.toml", `address = "(.*)"`))
	return socket, strings.Fields(ctr(t, socket, "namespaces", "ls", "-q"))[0]
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// logs measures the log writer against a plain copy, and counts lines over a restart of the
// daemon.
func logs(t *testing.T, r *rack, rows *bench.Report) {
	const size = 1 << 30
	line := strings.Repeat("x", 199) + "\n"
	input := filepath.Join(r.dir, "input")
	f, err := os.Create(input)
	if err != nil {
		t.Fatal(err)
	}
	for range 256 {
		if _, err := io.WriteString(f, strings.Repeat(line, size/256/len(line))); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	rate := func(cmd *exec.Cmd, writer *os.File, extra ...*os.File) float64 {
		began := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for _, e := range extra {
			e.Close()
		}
		in, err := os.Open(input)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if _, err := io.CopyBuffer(struct{ io.Writer }{writer}, struct{ io.Reader }{in}, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		writer.Close()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		return size / 1e6 / time.Since(began).Seconds()
	}
	outR, outW, _ := os.Pipe()
	errR, errW, _ := os.Pipe()
	readyR, readyW, _ := os.Pipe()
	errW.Close()
	logger := exec.Command(bin.Dir+"/sliplog", "dir", r.dir+"/benchlog")
	logger.ExtraFiles = []*os.File{outR, errR, readyW}
	ours := rate(logger, outW, outR, errR, readyW)
	readyR.Close()
	catR, catW, _ := os.Pipe()
	cat := exec.Command("cat")
	cat.Stdin = catR
	copied, err := os.Create(r.dir + "/copied")
	if err != nil {
		t.Fatal(err)
	}
	cat.Stdout = copied
	plain := rate(cat, catW, catR)
	copied.Close()
	rows.Add("log_over_pipe", ours, "MB/s", "cat through a pipe into a file", plain, "1 GiB of 200-byte lines through sliplog, which keeps the last 16 MiB; cat keeps all")

	const lines = 20000
	before := strings.Count(r.must("", "logs", "--no-follow", "--since", "1h", "-a", "shop"), "count ")
	id := strings.TrimSpace(r.must("", "run", "web", "--detach", "-a", "shop", "--", "count", strconv.Itoa(lines)))
	time.Sleep(500 * time.Millisecond) // lets some lines pass before the kill
	r.kill()
	r.launch()
	var got int
	r.await("end of the count", time.Minute, func() bool {
		out := r.must("", "logs", "--no-follow", "--since", "1h", "-a", "shop")
		got = strings.Count(out, "count ") - before
		return strings.Contains(out, fmt.Sprintf("count %d\n", lines-1))
	})
	rows.Add("log_lines_lost", float64(lines-got), "lines", "written", lines, "kill -9 of slipwayd while a process writes; "+firstLine(id))
}

func firstLine(s string) string { a, _, _ := strings.Cut(s, "\n"); return a }

// cpuTime is what a process has used, user and system (proc(5), fields 14 and 15 of stat).
func cpuTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	const tick = 10 * time.Millisecond
	return time.Duration(user+system) * tick
}

// rss is the resident memory of a process in MB.
func rss(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib / 1024
		}
	}
	return 0
}
