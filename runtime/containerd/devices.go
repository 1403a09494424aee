package containerd

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"slipway/api"
)

// ownerCanUse is the least that a device's mode allows: its owner inside is the process.
const ownerCanUse = 0o600

// withDevices gives the process device nodes of the host and leave to use them. It comes after the
// user is known: the node in the container belongs to whom it was granted, or a process that is
// not root could not open what the host keeps for a group of its own.
func withDevices(paths []string) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		for _, path := range paths {
			d, err := deviceAt(path)
			if err != nil {
				return err
			}
			mode := *d.FileMode | ownerCanUse
			uid, gid := s.Process.User.UID, s.Process.User.GID
			d.Path, d.FileMode, d.UID, d.GID = path, &mode, &uid, &gid
			s.Linux.Devices = append(s.Linux.Devices, *d)
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
				Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: "rw",
			})
		}
		return nil
	}
}

// deviceAt reads a device node of the host, or the one that a link such as /dev/disk/by-id/x leads
// to.
func deviceAt(path string) (*specs.LinuxDevice, error) {
	node, err := filepath.EvalSymlinks(path)
	var d *specs.LinuxDevice
	if err == nil {
		d, err = oci.DeviceFromPath(node)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, api.Errorf(api.CodeNotFound, "device %s is not there any more", path)
	case errors.Is(err, oci.ErrNotADevice):
		return nil, api.Errorf(api.CodeInvalid, "%s is not a device", path)
	case err != nil:
		return nil, api.Errorf(api.CodeInternal, "device %s: %w", path, err)
	}
	return d, nil
}
