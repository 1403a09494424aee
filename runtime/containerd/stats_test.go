package containerd

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"slipway/api"
	"slipway/runtime"
)

// tree writes the files of a hierarchy of control groups.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// The files are as Linux 6.18 shows them, shortened.
var (
	version1 = map[string]string{
		"unified/cgroup.controllers":               "hugetlb\n", // hybrid
		"memory/memory.memsw.limit_in_bytes":       "9223372036854771712\n",
		"memory/rack/p1/cgroup.procs":              "1234\n",
		"memory/rack/p1/memory.usage_in_bytes":     "41943040\n",
		"memory/rack/p1/memory.max_usage_in_bytes": "62914560\n",
		"memory/rack/p1/memory.limit_in_bytes":     "67108864\n",
		"memory/rack/p1/memory.stat":               "cache 10485760\ninactive_file 1\ntotal_cache 10485760\ntotal_inactive_file 8388608\ntotal_active_file 4096\n",
		"memory/rack/p1/memory.oom_control":        "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		"cpuacct/rack/p1/cpuacct.usage":            "1500000000\n",
		"cpu/rack/p1/cpu.stat":                     "nr_periods 52\nnr_throttled 51\nthrottled_time 2500000000\n",
		"pids/rack/p1/pids.current":                "7\n",
		"memory/rack/p2/cgroup.procs":              "",
		"memory/rack/p2/memory.limit_in_bytes":     "9223372036854771712\n",
		"memory/rack/p2/memory.usage_in_bytes":     "4096\n",
		"memory/rack/p2/memory.stat":               "total_inactive_file 8192\n",
	}
	version2 = map[string]string{
		"cgroup.controllers":           "cpuset cpu io memory hugetlb pids rdma misc\n",
		"system.slice/memory.swap.max": "max\n",
		"rack/p1/cgroup.procs":         "1234\n",
		"rack/p1/memory.current":       "41943040\n",
		"rack/p1/memory.peak":          "62914560\n",
		"rack/p1/memory.max":           "67108864\n",
		"rack/p1/memory.stat":          "anon 31457280\nfile 10485760\ninactive_anon 1\nactive_file 4096\ninactive_file 8388608\n",
		"rack/p1/memory.events":        "low 0\nhigh 0\nmax 31\noom 3\noom_kill 2\noom_group_kill 0\n",
		"rack/p1/cpu.stat":             "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 52\nnr_throttled 51\nthrottled_usec 2500000\n",
		"rack/p1/pids.current":         "7\n",
		"rack/p2/cgroup.procs":         "",
		"rack/p2/memory.max":           "max\n",
		"rack/p2/memory.current":       "4096\n",
		"rack/p2/memory.stat":          "inactive_file 8192\n",
	}
)

func TestBothVersionsOfControlGroupsAreRead(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		unified bool
	}{"version 1, hybrid": {version1, false}, "version 2": {version2, true}} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, c.files)
			if isUnified(root) != c.unified {
				t.Fatalf("unified: %v", !c.unified)
			}
			g := group{root: root, name: "rack/p1", unified: c.unified}
			got := g.stats()
			got.At = time.Time{}
			want := runtime.Stats{
				CPU: 1500 * time.Millisecond, Throttled: 2500 * time.Millisecond,
				Memory: 32 * api.MiB, PeakMemory: 60 * api.MiB, MemoryLimit: 64 * api.MiB, Processes: 7, OOMKills: 2,
			}
			if got != want || !g.exists() {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			free := group{root: root, name: "rack/p2", unified: c.unified}
			if s := free.stats(); s.MemoryLimit != 0 || s.Memory != 0 || s.PeakMemory != 4096 || s.OOMKills != 0 {
				t.Errorf("without a limit, more cache than use, no peak: %+v", s)
			}
			gone := group{root: root, name: "rack/p3", unified: c.unified}
			if s := gone.stats(); gone.exists() || s.Memory != 0 || s.CPU != 0 || gone.peak() != 0 {
				t.Errorf("a group that is gone: %+v", s)
			}
			if !boundsSwap(root) {
				t.Error("swap is accounted")
			}
		})
	}
}

func TestSwapThatIsNotAccountedIsNotBound(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"version 1": {"memory/memory.limit_in_bytes": "1\n"},
		"version 2": {"cgroup.controllers": "memory\n", "system.slice/memory.max": "max\n"},
	} {
		if boundsSwap(tree(t, files)) {
			t.Errorf("%s: found a file that is not there", name)
		}
	}
}

func TestDamagedFilesAreZero(t *testing.T) {
	g := group{root: tree(t, map[string]string{
		"rack/p1/memory.current": "many\n", "rack/p1/memory.max": "", "rack/p1/cpu.stat": "usage_usec\nthrottled_usec x\n", "rack/p1/memory.events": "oom_kill",
	}), name: "rack/p1", unified: true}
	s := g.stats()
	if s.At = (time.Time{}); s != (runtime.Stats{}) {
		t.Errorf("got %+v", s)
	}
}
