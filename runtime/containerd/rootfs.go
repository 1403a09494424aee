package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	continuity "github.com/containerd/continuity/fs"
	"github.com/moby/sys/user"

	"slipway/api"
)

// engineDirs are what runc mounts file systems on. It follows links on the way, some versions
// out of the image: /dev as a link makes device nodes and links wherever it points.
var engineDirs = []string{"dev", "proc", "sys"}

// checkRootFS looks at the image's files for what must not reach runc.
func checkRootFS(workDir string) oci.SpecOpts {
	return func(ctx context.Context, c oci.Client, ct *containers.Container, _ *oci.Spec) error {
		mounts, err := c.SnapshotService(ct.Snapshotter).Mounts(ctx, ct.SnapshotKey)
		if err != nil {
			return fmt.Errorf("file system of container %s: %w", ct.ID, classify(err))
		}
		return mount.WithReadonlyTempMount(ctx, mounts, func(root string) error { return checkFiles(root, workDir) })
	}
}

func checkFiles(root, workDir string) error {
	for _, name := range engineDirs {
		info, err := os.Lstat(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // runc makes it
		}
		if err != nil {
			return fmt.Errorf("/%s of the image: %w", name, err)
		}
		if !info.IsDir() {
			return api.Errorf(api.CodeInvalid, "the image has a %s at /%s, where a directory must be", kindOf(info.Mode()), name)
		}
	}
	// runc before 1.2 takes the number of a group for its name: a group "1000" with the number 0
	// would give the root group to whoever has the group 1000.
	disguised := func(g user.Group) bool {
		return g.Name != "" && strings.Trim(g.Name, "0123456789") == "" && g.Name != strconv.Itoa(g.Gid)
	}
	if gid, err := oci.GIDFromPath(root, disguised); err == nil {
		return api.Errorf(api.CodeInvalid, "the image's /etc/group gives the name of another number to group %d", gid)
	}
	dir, err := continuity.RootPath(root, workDir)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "working directory %q of the image: %w", workDir, err)
	}
	proc := filepath.Join(root, "proc")
	if dir == proc || strings.HasPrefix(dir, proc+"/") {
		return api.Errorf(api.CodeInvalid, "working directory %q leads into /proc", workDir)
	}
	return nil
}

func kindOf(m fs.FileMode) string {
	if m&fs.ModeSymlink != 0 {
		return "link"
	}
	return "file"
}
