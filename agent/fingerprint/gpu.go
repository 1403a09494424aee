package fingerprint

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway/api"
)

// KindGPU is what services ask for to get a GPU.
const KindGPU = "gpu"

var (
	nvidiaRule = regexp.MustCompile(`^/dev/nvidia([0-9]+)$`)
	renderRule = regexp.MustCompile(`^/dev/dri/renderD[0-9]+$`)
)

// nvidiaControl and amdControl are the nodes that a GPU does nothing without. All GPUs of a vendor
// share them, so that they belong to nobody.
var (
	nvidiaControl = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"}
	amdControl    = []string{"/dev/kfd"}
)

// DeviceNodes returns the device nodes that a process needs for an instance: its own, and those
// that control GPUs of its vendor, as far as they are there. root is "/" but in tests.
func DeviceNodes(root, instance string) []string {
	out := []string{instance}
	var control []string
	switch {
	case nvidiaRule.MatchString(instance):
		control = nvidiaControl
	case renderRule.MatchString(instance) && driver(root, filepath.Base(instance)) == "amdgpu":
		control = amdControl
	}
	for _, path := range control {
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			out = append(out, path)
		}
	}
	return out
}

// nodes lists the device nodes below root that a pattern finds and a rule takes, by number.
func nodes(root, pattern string, rule *regexp.Regexp) []string {
	found, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are well formed
	var out []string
	for _, path := range found {
		path = "/" + strings.TrimPrefix(strings.TrimPrefix(path, filepath.Clean(root)), "/")
		if rule.MatchString(path) {
			out = append(out, path)
		}
	}
	slices.SortFunc(out, func(a, b string) int { // nvidia10 comes after nvidia9
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return out
}

// nvidia finds the GPUs of NVIDIA's driver.
func nvidia(root string) []api.Device {
	models := nvidiaModels(root)
	version := nvidiaVersion(root)
	var out []api.Device
	for _, path := range nodes(root, "dev/nvidia[0-9]*", nvidiaRule) {
		minor, err := strconv.Atoi(nvidiaRule.FindStringSubmatch(path)[1])
		if err != nil {
			continue // a number that no driver gives
		}
		d := api.Device{Kind: KindGPU, Vendor: "nvidia", Model: models[minor], Instances: []string{path}}
		if version != "" {
			d.Attributes = with(nil, "driver", version)
		}
		out = append(out, d)
	}
	return out
}

// nvidiaModels reads the models by the number of the device node, from what the driver tells of
// each GPU:
//
//	Model:           NVIDIA A100-SXM4-40GB
//	Device Minor:    0
func nvidiaModels(root string) map[int]string {
	out := map[int]string{}
	files, _ := filepath.Glob(filepath.Join(root, "proc/driver/nvidia/gpus/*/information")) // the pattern is well formed
	for _, file := range files {
		model, minor := "", -1
		for line := range strings.Lines(read(file)) {
			name, value, _ := strings.Cut(line, ":")
			switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
			case "Model":
				model = value
			case "Device Minor":
				if n, err := strconv.Atoi(value); err == nil {
					minor = n
				}
			}
		}
		if minor >= 0 {
			out[minor] = model
		}
	}
	return out
}

// nvidiaVersion finds the driver's version in a line such as "NVRM version: NVIDIA UNIX x86_64
// Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023"; "" where there is none.
func nvidiaVersion(root string) string {
	first, _, _ := strings.Cut(read(filepath.Join(root, "proc/driver/nvidia/version")), "\n")
	for _, word := range strings.Fields(first) {
		if strings.Contains(word, ".") && strings.Trim(word, "0123456789.") == "" {
			return word
		}
	}
	return ""
}

// amd finds the GPUs of the driver amdgpu.
func amd(root string) []api.Device {
	var out []api.Device
	for _, path := range nodes(root, "dev/dri/renderD*", renderRule) {
		name := filepath.Base(path)
		if driver(root, name) != "amdgpu" {
			continue
		}
		dir := filepath.Join(root, "sys/class/drm", name, "device")
		d := api.Device{Kind: KindGPU, Vendor: "amd", Model: read(filepath.Join(dir, "product_name")), Instances: []string{path}}
		if d.Model == "" {
			d.Model = read(filepath.Join(dir, "device")) // the number on the bus: "0x740f"
		}
		if size, err := strconv.ParseInt(read(filepath.Join(dir, "mem_info_vram_total")), 10, 64); err == nil && size > 0 {
			d.Attributes = with(nil, "memory", strconv.FormatInt(size>>20, 10))
		}
		out = append(out, d)
	}
	return out
}

// driver names the kernel's driver of a node below /dev/dri; "" where it is not known.
func driver(root, name string) string {
	link, err := os.Readlink(filepath.Join(root, "sys/class/drm", name, "device/driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}

// read returns a small file without the blanks around its text; "" where it cannot be read.
func read(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
