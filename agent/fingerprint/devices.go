package fingerprint

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"slipway/api"
)

// kindRule is how kinds of device are named.
var kindRule = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Devices returns what processes can be given: the GPUs that are found, and what the operator
// names. Of what is both, the operator's word counts. root is "/" but in tests; what the operator
// names lies below it as well.
func Devices(root string, named []string) ([]api.Device, error) {
	var out []api.Device
	owner := map[uint64]string{} // of a device's number: the path that it was named by
	for _, text := range named {
		d, err := ParseDevice(text)
		if err != nil {
			return nil, err
		}
		for _, path := range d.Instances {
			number, err := deviceNumber(filepath.Join(root, path))
			if err != nil {
				return nil, api.Errorf(api.CodeInvalid, "--device %s: %s %w", d.Kind, path, err)
			}
			if other, again := owner[number]; again {
				return nil, api.Errorf(api.CodeInvalid, "--device %s: %s is the same device as %s; name it once, it can belong to one process at a time", d.Kind, path, other)
			}
			owner[number] = path
		}
		out = append(out, d)
	}
	for _, d := range slices.Concat(nvidia(root), amd(root)) {
		d.Instances = slices.DeleteFunc(d.Instances, func(path string) bool {
			number, err := deviceNumber(filepath.Join(root, path))
			return err == nil && owner[number] != ""
		})
		if len(d.Instances) > 0 {
			out = append(out, d)
		}
	}
	return joinAlike(out), nil
}

// joinAlike makes one group of devices that differ in nothing, in an order that does not depend on
// how they were found.
func joinAlike(list []api.Device) []api.Device {
	var out []api.Device
	for _, d := range list {
		i := slices.IndexFunc(out, func(o api.Device) bool {
			return o.Kind == d.Kind && o.Vendor == d.Vendor && o.Model == d.Model && maps.Equal(o.Attributes, d.Attributes)
		})
		if i < 0 {
			out = append(out, d)
			continue
		}
		out[i].Instances = append(out[i].Instances, d.Instances...)
	}
	slices.SortStableFunc(out, func(a, b api.Device) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Vendor, b.Vendor), cmp.Compare(a.Model, b.Model))
	})
	return out
}

// ParseDevice reads how an operator names devices: NAME=PATH[,PATH…][;KEY=VALUE…]. The keys vendor
// and model are those of a group, all others are attributes.
func ParseDevice(text string) (api.Device, error) {
	bad := func(why string) (api.Device, error) {
		return api.Device{}, api.Errorf(api.CodeInvalid, "--device %q: %s; write NAME=PATH[,PATH…][;vendor=…;model=…;key=value], such as coral=/dev/apex_0", text, why)
	}
	list, facts, any := strings.Cut(text, ";")
	kind, paths, ok := strings.Cut(list, "=")
	if !ok || !kindRule.MatchString(kind) {
		return bad("the name is not one of a-z, 0-9 and dash that begins with a letter")
	}
	d := api.Device{Kind: kind, Instances: strings.Split(paths, ",")}
	for i, path := range d.Instances {
		kernel := strings.HasPrefix(path, "/proc/") || strings.HasPrefix(path, "/sys/")
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || kernel {
			return bad(fmt.Sprintf("%q is not the path of a device", path))
		}
		if slices.Contains(d.Instances[:i], path) {
			return bad(path + " is there twice")
		}
	}
	if !any {
		return d, nil
	}
	for _, fact := range strings.Split(facts, ";") {
		key, value, ok := strings.Cut(fact, "=")
		_, again := d.Attributes[key]
		switch {
		case !ok || key == "" || value == "":
			return bad(fmt.Sprintf("%q is not of the form key=value", fact))
		case again || key == "vendor" && d.Vendor != "" || key == "model" && d.Model != "":
			return bad(key + " is there twice")
		case key == "vendor":
			d.Vendor = value
		case key == "model":
			d.Model = value
		default:
			d.Attributes = with(d.Attributes, key, value)
		}
	}
	return d, nil
}

// with sets a key of a map that may be nil.
func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// deviceNumber identifies the device that a path, or a link, leads to.
func deviceNumber(path string) (uint64, error) {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return 0, fmt.Errorf("is not there; load its driver, or remove it from the agent's flags")
	}
	if err != nil {
		return 0, fmt.Errorf("cannot be looked at: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode()&os.ModeDevice == 0 || !ok {
		return 0, fmt.Errorf("is not a device node")
	}
	number := st.Rdev << 1 // devices of characters and of blocks are numbered apart
	if info.Mode()&os.ModeCharDevice != 0 {
		number |= 1
	}
	return number, nil
}
