package fingerprint

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"slipway/api"
)

// tree writes files below a directory; a text of "→x" is a link to x.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if link, ok := strings.CutPrefix(text, "→"); ok {
			err = os.Symlink(link, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// gpus is a machine with three GPUs of NVIDIA's, two of AMD's, and one that is neither.
var gpus = map[string]string{
	"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidia10": "", "dev/nvidiactl": "", "dev/nvidia-uvm": "", "dev/nvidia-caps/nvidia-cap1": "",
	"proc/driver/nvidia/gpus/0000:07:00.0/information": "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 155\nDevice Minor: \t 0\n",
	"proc/driver/nvidia/gpus/0000:0f:00.0/information": "Model: \t\t NVIDIA A100-SXM4-40GB\nDevice Minor: \t 10\n",
	"proc/driver/nvidia/gpus/0000:47:00.0/information": "Model: \t\t Tesla T4\nDevice Minor: \t 1\n",
	"proc/driver/nvidia/version":                       "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc 12.2.0\n",
	"dev/dri/card0":                                    "", "dev/dri/renderD128": "", "dev/dri/renderD129": "", "dev/dri/renderD130": "", "dev/kfd": "",
	"sys/class/drm/renderD128/device/driver":              "→../../../bus/pci/drivers/amdgpu",
	"sys/class/drm/renderD128/device/product_name":        "AMD Instinct MI210\n",
	"sys/class/drm/renderD128/device/mem_info_vram_total": "68702699520\n",
	"sys/class/drm/renderD129/device/driver":              "→../../../bus/pci/drivers/amdgpu",
	"sys/class/drm/renderD129/device/device":              "0x73bf\n",
	"sys/class/drm/renderD130/device/driver":              "→../../../bus/pci/drivers/i915",
}

func TestGPUsAreFound(t *testing.T) {
	got, err := Devices(tree(t, gpus), nil)
	want := []api.Device{
		{Kind: "gpu", Vendor: "amd", Model: "0x73bf", Instances: []string{"/dev/dri/renderD129"}},
		{Kind: "gpu", Vendor: "amd", Model: "AMD Instinct MI210", Attributes: map[string]string{"memory": "65520"}, Instances: []string{"/dev/dri/renderD128"}},
		{Kind: "gpu", Vendor: "nvidia", Model: "NVIDIA A100-SXM4-40GB", Attributes: map[string]string{"driver": "535.104.05"}, Instances: []string{"/dev/nvidia0", "/dev/nvidia10"}},
		{Kind: "gpu", Vendor: "nvidia", Model: "Tesla T4", Attributes: map[string]string{"driver": "535.104.05"}, Instances: []string{"/dev/nvidia1"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("found %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := Devices(t.TempDir(), nil); err != nil || got != nil {
		t.Errorf("a machine without any: %+v, %v", got, err)
	}
	// A driver that tells nothing of its GPUs.
	got, err = Devices(tree(t, map[string]string{"dev/nvidia0": "", "dev/dri/renderD128": ""}), nil)
	if want := []api.Device{{Kind: "gpu", Vendor: "nvidia", Instances: []string{"/dev/nvidia0"}}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("without a word of the driver: %+v, %v", got, err)
	}
}

// TestDeviceNodes: a GPU comes with what controls it, as far as that is there; nothing else does.
func TestDeviceNodes(t *testing.T) {
	root := tree(t, gpus)
	for instance, want := range map[string]string{
		"/dev/nvidia1": "/dev/nvidia1 /dev/nvidiactl /dev/nvidia-uvm", "/dev/dri/renderD128": "/dev/dri/renderD128 /dev/kfd",
		"/dev/dri/renderD130": "/dev/dri/renderD130", "/dev/dri/card0": "/dev/dri/card0", "/dev/apex_0": "/dev/apex_0", "/srv/dev/nvidia0": "/srv/dev/nvidia0",
	} {
		if got := strings.Join(DeviceNodes(root, instance), " "); got != want {
			t.Errorf("%s: %s, want %s", instance, got, want)
		}
	}
	if got := DeviceNodes(t.TempDir(), "/dev/nvidia0"); len(got) != 1 {
		t.Errorf("without control nodes: %q", got)
	}
}

// node makes a device node below a tree.
func node(t *testing.T, root, path string, kind uint32, minor uint32) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(root, path), kind|0o600, int(unix.Mkdev(10, minor))); err != nil {
		t.Fatal(err)
	}
}

func TestOperatorsDevices(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make device nodes")
	}
	root := tree(t, map[string]string{"dev/file": "", "dev/link": "→fuse", "dev/nvidia0": "", "dev/dangling": "→nowhere"})
	node(t, root, "dev/fuse", unix.S_IFCHR, 229)
	node(t, root, "dev/apex_0", unix.S_IFCHR, 120)
	node(t, root, "dev/apex_1", unix.S_IFCHR, 121)
	node(t, root, "dev/nvidia1", unix.S_IFCHR, 122)
	node(t, root, "dev/block", unix.S_IFBLK, 229) // the number of fuse, and another device
	got, err := Devices(root, []string{
		"coral=/dev/apex_1;vendor=google;usb=3.0", "fuse=/dev/link,/dev/block", "coral=/dev/apex_0;usb=3.0;vendor=google", "gpu=/dev/nvidia1;vendor=nvidia;model=A2;memory=16384",
	})
	want := []api.Device{
		{Kind: "coral", Vendor: "google", Attributes: map[string]string{"usb": "3.0"}, Instances: []string{"/dev/apex_1", "/dev/apex_0"}},
		{Kind: "fuse", Instances: []string{"/dev/link", "/dev/block"}},
		{Kind: "gpu", Vendor: "nvidia", Instances: []string{"/dev/nvidia0"}},
		{Kind: "gpu", Vendor: "nvidia", Model: "A2", Attributes: map[string]string{"memory": "16384"}, Instances: []string{"/dev/nvidia1"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	for text, says := range map[string]string{
		"a=/dev/none": "/dev/none is not there", "a=/dev/dangling": "/dev/dangling is not there", "a=/dev/file": "/dev/file is not a device node",
		"a=/dev": "/dev is not a device node", "a=/dev/fuse,/dev/link": "/dev/link is the same device as /dev/fuse",
	} {
		if _, err := Devices(root, []string{text}); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

func TestParseDevice(t *testing.T) {
	got, err := ParseDevice("gpu=/dev/a,/dev/b;vendor=x y;model=m=1;memory=80")
	want := api.Device{Kind: "gpu", Vendor: "x y", Model: "m=1", Attributes: map[string]string{"memory": "80"}, Instances: []string{"/dev/a", "/dev/b"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{
		"", "gpu", "=/dev/a", "GPU=/dev/a", "-=/dev/a", "a b=/dev/a", "a=", "a=dev/x", "a=/dev/../x", "a=/dev/x,", "a=/dev/x,/dev/x", "a=/dev/x/",
		"a=/proc/1/fd/0", "a=/sys/x", "a=/dev/x;", "a=/dev/x;k", "a=/dev/x;k=", "a=/dev/x;=v", "a=/dev/x;k=1;k=2", "a=/dev/x;vendor=a;vendor=b", strings.Repeat("a", 64) + "=/dev/x",
	} {
		if d, err := ParseDevice(text); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "coral=/dev/apex_0") {
			t.Errorf("%q: %+v, %v", text, d, err)
		}
	}
}
