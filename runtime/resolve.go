package runtime

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway/api"
)

// PathDefault is where commands are looked for if neither image nor spec says PATH.
const PathDefault = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// uidMax is the highest number of a user or group that container engines agree on.
const uidMax = 1<<31 - 1

// Command is what runs in a container: what a spec says, and what its image says where the
// spec leaves it open.
type Command struct {
	Args    []string
	Env     []string // NAME=value, each name once
	User    string   // empty is 0
	WorkDir string   // absolute and clean
}

// idRule keeps IDs usable as names of files and control groups.
var idRule = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// CheckID reports why id cannot name a container, or nil.
func CheckID(id api.ProcessID) error {
	if !idRule.MatchString(string(id)) {
		return api.Errorf(api.CodeInvalid, "%.80q cannot name a container: an ID has up to 63 of a-z, 0-9 and dash", string(id))
	}
	return nil
}

// Resolve completes a spec by its image, and refuses what no engine may run. It is pure: the
// content of the image is for the engine to check.
func (s *Spec) Resolve(image ImageInfo) (Command, error) {
	c := Command{
		Args: s.arguments(image), User: s.User, WorkDir: s.WorkDir,
		Env: MergeEnv([]string{"PATH=" + PathDefault}, image.Env, s.Env),
	}
	if c.User == "" {
		c.User = image.User
	}
	if c.WorkDir == "" {
		c.WorkDir = image.WorkDir
	}
	if c.WorkDir == "" {
		c.WorkDir = "/"
	}
	if s.Group != "" {
		user, _, _ := strings.Cut(c.User, ":")
		c.User = cmp.Or(user, "0") + ":" + s.Group
	}
	if err := CheckID(s.ID); err != nil {
		return Command{}, err
	}
	if len(c.Args) == 0 {
		return Command{}, api.Errorf(api.CodeInvalid, "image %s says no command and none is given; set command in the manifest", s.Image)
	}
	if err := CheckUser(c.User); err != nil {
		return Command{}, err
	}
	if err := CheckWorkDir(c.WorkDir); err != nil {
		return Command{}, err
	}
	c.WorkDir = path.Clean(c.WorkDir)
	for _, m := range s.Mounts {
		if !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target || m.Target == "/" {
			return Command{}, api.Errorf(api.CodeInvalid, "mount target %q is not a clean absolute path below /", m.Target)
		}
	}
	return c, checkDevices(s.Devices)
}

// checkDevices refuses what cannot name device nodes in a container.
func checkDevices(list []string) error {
	for i, d := range list {
		kernel := strings.HasPrefix(d, "/proc/") || strings.HasPrefix(d, "/sys/")
		if !path.IsAbs(d) || path.Clean(d) != d || d == "/" || kernel {
			return api.Errorf(api.CodeInvalid, "device %q is not a clean absolute path outside of /proc and /sys", d)
		}
		if slices.Contains(list[:i], d) {
			return api.Errorf(api.CodeInvalid, "device %s is named twice", d)
		}
	}
	return nil
}

// Check refuses a further process that no engine may run.
func (x *ExecSpec) Check() error {
	if len(x.Args) == 0 {
		return api.Errorf(api.CodeInvalid, "no command is given")
	}
	if err := CheckUser(x.User); err != nil || x.WorkDir == "" {
		return err
	}
	return CheckWorkDir(x.WorkDir)
}

// arguments is what runs: entrypoint + command.
func (s *Spec) arguments(image ImageInfo) []string {
	entrypoint, command := image.Entrypoint, image.Cmd
	if s.Entrypoint != nil {
		entrypoint, command = s.Entrypoint, nil
	}
	if len(s.Command) > 0 {
		command = s.Command
	}
	return slices.Concat(entrypoint, command)
}

// MergeEnv joins environments, NAME=value. A name that comes again replaces the value in place;
// entries without a name are dropped.
func MergeEnv(envs ...[]string) []string {
	var out []string
	at := map[string]int{}
	for _, kv := range slices.Concat(envs...) {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			continue
		}
		if i, again := at[name]; again {
			out[i] = kv
			continue
		}
		at[name] = len(out)
		out = append(out, kv)
	}
	return out
}

// CheckWorkDir refuses what could leave the root file system (CVE-2024-21626). Links in the
// image are for the engine to follow.
func CheckWorkDir(dir string) error {
	clean := path.Clean(dir)
	if !path.IsAbs(dir) || clean == "/proc" || strings.HasPrefix(clean, "/proc/") {
		return api.Errorf(api.CodeInvalid, "working directory %q is not an absolute path outside of /proc", dir)
	}
	return nil
}

// CheckUser refuses what an engine could take for another user than the one written, such as a
// number that overflows to 0 (CVE-2024-40635) or a name with a blank at its end.
func CheckUser(user string) error {
	parts := strings.Split(user, ":")
	if len(parts) > 2 || user != "" && slices.Contains(parts, "") {
		return api.Errorf(api.CodeInvalid, `user %q is not of the form "user" or "user:group"`, user)
	}
	for _, part := range parts {
		digits := part != "" && strings.Trim(part, "0123456789") == ""
		if n, err := strconv.ParseUint(part, 10, 64); digits && (err != nil || n > uidMax) {
			return api.Errorf(api.CodeInvalid, "user %q is out of range, the highest number is %d", user, uidMax)
		}
		if !digits && (strings.ContainsFunc(part, notInName) || strings.HasPrefix(part, "-")) {
			return api.Errorf(api.CodeInvalid, "user %q is not a name or a number", user)
		}
	}
	return nil
}

// notInName reports what names of users never have: blanks, control characters, separators.
func notInName(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/,+", r) }

// DefaultHosts is the content of /etc/hosts where a spec gives none.
func DefaultHosts(hostname string) []byte {
	return []byte("127.0.0.1\tlocalhost " + hostname + "\n::1\tlocalhost\n")
}
