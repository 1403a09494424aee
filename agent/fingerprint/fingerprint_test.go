package fingerprint

import (
	"os"
	"path/filepath"
	goruntime "runtime"
	"testing"

	"golang.org/x/sys/unix"

	"slipway/api"
)

func TestNodeSaysWhatThisMachineIs(t *testing.T) {
	n, err := Node(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	kernel := api.Bytes(si.Totalram) * api.Bytes(si.Unit)
	if n.Capacity.Memory != kernel || n.Capacity.CPU != api.MilliCPU(goruntime.NumCPU())*1000 || n.Capacity.Disk <= 0 {
		t.Errorf("capacity %+v, the kernel has %s", n.Capacity, kernel)
	}
	if n.Name != host || len(n.BootID) != 36 {
		t.Errorf("name %q, boot ID %q", n.Name, n.BootID)
	}
	if n.Reserved.Memory < reservedMemory || n.Reserved.Memory < n.Capacity.Memory/reservedShare {
		t.Errorf("reserved %+v of %+v", n.Reserved, n.Capacity)
	}
	for name, want := range map[string]string{"arch": goruntime.GOARCH, "os": "linux"} {
		if n.Attributes[name] != want {
			t.Errorf("attribute %s is %q", name, n.Attributes[name])
		}
	}
	if v := n.Attributes["cgroup"]; n.Attributes["kernel"] == "" || v != "1" && v != "2" {
		t.Errorf("attributes %v", n.Attributes)
	}
	if _, err := Node(t.Context(), filepath.Join(t.TempDir(), "not-there")); err == nil {
		t.Error("a directory that is not there has a size")
	}
}

func TestMemoryTotal(t *testing.T) {
	for text, want := range map[string]api.Bytes{
		"MemTotal:       24689384 kB\nMemFree:  1 kB\n": 24689384 * api.KiB,
		"MemFree: 1 kB\nMemTotal:\t8 kB":                8 * api.KiB,
		"":                                              0, "MemTotal: much kB\n": 0, "MemTotal:\n": 0, "SwapTotal: 8 kB\n": 0,
	} {
		if got, err := memoryTotal(text); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestRuncVersion(t *testing.T) {
	for text, want := range map[string]string{
		"runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n": "1.1.5",
		"runc version 1.3.3\n": "1.3.3",
		"crun version 1.8.1\n": "1.8.1",
		"":                     "",
		"no such option\n":     "",
		"runc is out of order": "",
	} {
		if got := runcVersion(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
