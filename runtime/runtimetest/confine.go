package runtimetest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"slipway/api"
	"slipway/runtime"
)

// sh is a container that runs a script of busybox's shell.
func (l *lab) sh(script string) runtime.Spec {
	s := l.spec(script)
	s.Entrypoint = []string{"/bin/sh", "-c"}
	return s
}

// prints runs a container and compares its output.
func (l *lab) prints(what string, s runtime.Spec, want string) {
	l.Helper()
	if out, c := l.run(s); out != want {
		l.Errorf("%s: got %q (exit %d), want %q", what, out, c.ExitCode, want)
	}
}

// people is an image with users. One has a name that looks like a number.
func (l *lab) people() string {
	return l.pulled(Image{Files: []File{
		{Name: "etc/passwd", Text: "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n1001:x:0:0::/:/bin/sh\nbig:x:4294967296:1000::/:/bin/sh\nzero:x:0:1000::/:/bin/sh\n"},
		{Name: "etc/group", Text: "root:x:0:\napp:x:1000:\nextra:x:2000:app\n1002:x:1002:\n"},
	}})
}

func users(l *lab) {
	ref := l.people()
	const script = "echo $(id -u) $(id -g) $(sed -n 's/^Groups://p' /proc/self/status)"
	for user, want := range map[string]string{
		"": "0 0", "root": "0 0 0", "app": "1000 1000 1000 2000", "1000": "1000 1000 1000 2000", "1000:1000": "1000 1000 1000",
		"app:extra": "1000 2000 2000", "app:7": "1000 7 7", "1001": "1001 0 0", "5:1002": "5 1002 1002",
	} {
		s := l.sh(script)
		s.Image, s.User = ref, user
		l.prints("user "+user, s, want+"\n")
	}
	s := l.sh("sleep 1000")
	s.Image = ref
	l.start(s)
	for user, want := range map[string]string{"": "0 0", "app": "1000 1000 1000 2000", "12:13": "12 13 13"} {
		if out, _, _ := l.exec(s.ID, runtime.ExecSpec{Args: []string{"/bin/sh", "-c", script}, User: user}); out != want+"\n" {
			l.Errorf("exec as %q: got %q, want %q", user, out, want)
		}
	}
	_, err := l.Engine.Exec(l.ctx(), s.ID, runtime.ExecSpec{Args: []string{"/bin/true"}, User: "nobody-here"})
	l.coded("exec as an unknown user", err, api.CodeInvalid)
	s = l.sh("true")
	s.User = "nobody-here"
	l.coded("unknown user", l.Engine.Create(l.ctx(), s), api.CodeInvalid)
}

func oomScore(l *lab) {
	const script = "cat /proc/self/oom_score_adj"
	want := fmt.Sprintln(runtime.OOMScore)
	for _, privileged := range []bool{false, true} {
		s := l.sh(script)
		s.Privileged = privileged
		l.prints(fmt.Sprintf("privileged %v", privileged), s, want)
	}
	s := l.sh("sleep 1000")
	l.start(s)
	if out, _, _ := l.exec(s.ID, runtime.ExecSpec{Args: []string{"/bin/sh", "-c", script}}); out != want {
		l.Errorf("exec: got %q, want %q", out, want)
	}
}

func nonRoot(l *lab) {
	ref := l.people()
	for _, user := range []string{"", "root", "0", "0:1000", "zero", "big", "000"} {
		s := l.sh("id -u")
		s.Image, s.User, s.NonRoot = ref, user, true
		err := l.Engine.Create(l.ctx(), s)
		l.coded("user "+user, err, api.CodeInvalid)
		if err == nil {
			l.removeAtEnd(s.ID)
		}
	}
	s := l.sh("id -u")
	s.Image, s.User, s.NonRoot = ref, "app", true
	l.prints("app", s, "1000\n")
}

func privileges(l *lab) {
	status := func(change func(*runtime.Spec)) map[string]string {
		s := l.sh("cat /proc/self/status")
		change(&s)
		out, _ := l.run(s)
		fields := map[string]string{}
		for line := range strings.Lines(out) {
			name, value, _ := strings.Cut(line, ":")
			fields[name] = strings.TrimSpace(value)
		}
		return fields
	}
	capabilities := func(fields map[string]string) uint64 {
		n, err := strconv.ParseUint(fields["CapEff"], 16, 64)
		if err != nil {
			l.Errorf("status %v: %v", fields, err)
		}
		return n
	}
	const netRaw, netAdmin, sysAdmin, mknod, auditWrite, chown = 1 << 13, 1 << 12, 1 << 21, 1 << 27, 1 << 29, 1 << 0
	plain := status(func(*runtime.Spec) {})
	if caps := capabilities(plain); caps&(netRaw|netAdmin|sysAdmin|mknod|auditWrite) != 0 || caps&chown == 0 {
		l.Errorf("a plain container has capabilities %x", caps)
	}
	if plain["NoNewPrivs"] != "1" || plain["Seccomp"] != "2" {
		l.Errorf("a plain container has NoNewPrivs %q, Seccomp %q", plain["NoNewPrivs"], plain["Seccomp"])
	}
	if caps := capabilities(status(func(s *runtime.Spec) { s.CapDrop = []string{"ALL"} })); caps != 0 {
		l.Errorf("without any, it has %x", caps)
	}
	if caps := capabilities(status(func(s *runtime.Spec) { s.CapDrop, s.CapAdd = []string{"all"}, []string{"net_admin", "CAP_CHOWN"} })); caps != netAdmin|chown {
		l.Errorf("with two, it has %x", caps)
	}
	if caps := capabilities(status(func(s *runtime.Spec) { s.CapDrop = []string{"CAP_CHOWN"} })); caps != capabilities(plain)&^chown {
		l.Errorf("without CHOWN, it has %x", caps)
	}
	if caps := capabilities(status(func(s *runtime.Spec) { s.User = "1000:1000" })); caps != 0 {
		l.Errorf("a user that is not root has %x", caps)
	}
	privileged := status(func(s *runtime.Spec) { s.Privileged = true })
	if privileged["Seccomp"] != "0" || capabilities(privileged)&sysAdmin == 0 {
		l.Errorf("a privileged container: %v", privileged)
	}
	l.prints("masked files", l.sh("ls /sys/firmware | wc -l; echo x 2>/dev/null > /proc/sys/kernel/hostname || echo no"), "0\nno\n")
}

func mounts(l *lab) {
	source := filepath.Join(l.Dir, string(l.id()))
	if err := os.MkdirAll(filepath.Join(source, "sub"), 0o777); err != nil {
		l.Fatal(err)
	}
	etc := filepath.Join(l.Dir, string(l.id()))
	if err := os.MkdirAll(etc, 0o755); err != nil {
		l.Fatal(err)
	}
	s := l.sh(`echo data > /rw/file; cat /ro/file; { echo x > /ro/other; } 2>/dev/null || echo read-only
stat -c %a /mem; df -k /mem | awk 'NR==2 {print $2}'; df -k /small | awk 'NR==2 {print $2}'; { echo x > /romem/x; } 2>/dev/null || echo read-only
grep -c ptest /etc/hosts; ls /deep/a/b | wc -l; grep -c " /rw .*nosuid,nodev" /proc/mounts; cat /one`)
	s.Mounts = []runtime.Mount{
		{Source: source, Target: "/rw"}, {Source: source, Target: "/ro", ReadOnly: true},
		{Target: "/mem"}, {Target: "/small", Size: api.MiB}, {Target: "/romem", ReadOnly: true},
		{Source: etc, Target: "/etc"}, {Target: "/deep/a/b"}, {Target: "/deep"}, {Source: filepath.Join(source, "file"), Target: "/one", ReadOnly: true},
	}
	if err := os.WriteFile(filepath.Join(source, "file"), nil, 0o644); err != nil {
		l.Fatal(err)
	}
	l.prints("mounts", s, "data\nread-only\n1777\n65536\n1024\nread-only\n1\n0\n1\ndata\n")
	if b, err := os.ReadFile(filepath.Join(source, "file")); string(b) != "data\n" {
		l.Errorf("on the host: %q, %v", b, err)
	}
	missing := l.sh("true")
	missing.Mounts = []runtime.Mount{{Source: filepath.Join(l.Dir, "not-there"), Target: "/data"}}
	l.coded("a source that is not there", l.Engine.Create(l.ctx(), missing), api.CodeInvalid)
}

func readOnly(l *lab) {
	s := l.sh("{ touch /x /etc/x /bin/x; } 2>/dev/null || echo read-only; echo ok > /tmp/x; cat /tmp/x; cat /etc/hostname")
	s.ReadOnlyRootFS = true
	s.Mounts = []runtime.Mount{{Target: "/tmp"}}
	s.Network.Hostname = "box"
	l.prints("read-only", s, "read-only\nok\nbox\n")
	l.prints("writable", l.sh("touch /x && echo ok"), "ok\n")
}

func limits(l *lab) {
	s := l.sh("while :; do :; done")
	s.Limits = runtime.Limits{CPU: 200, Memory: 64 * api.MiB, CPUShares: 500}
	l.start(s)
	first, err := l.Engine.Stats(l.ctx(), s.ID)
	if err != nil {
		l.Fatal(err)
	}
	var last runtime.Stats
	l.await("a second and a half of work", func() bool {
		last, err = l.Engine.Stats(l.ctx(), s.ID)
		return err != nil || last.At.Sub(first.At) > 1500*time.Millisecond
	}, func() any { return last })
	share := float64(last.CPU-first.CPU) / float64(last.At.Sub(first.At))
	if err != nil || share > 0.3 || last.Throttled <= first.Throttled || last.MemoryLimit != 64*api.MiB {
		l.Errorf("a fifth of a processor: it used %.2f; %+v, then %+v, %v", share, first, last, err)
	}
	out, _, _ := l.exec(s.ID, runtime.ExecSpec{Args: []string{"/bin/sh", "-c",
		"cd /sys/fs/cgroup; cat memory/memory.memsw.limit_in_bytes memory.swap.max cpu/cpu.shares 2>/dev/null"}})
	if out != fmt.Sprintf("%d\n512\n", 64*api.MiB) && out != "0\n" {
		l.Errorf("swap and shares are %q", out)
	}
	free := l.start(l.spec("wait"))
	if st, err := l.Engine.Stats(l.ctx(), free.ID); err != nil || st.MemoryLimit != 0 {
		l.Errorf("without a limit: %+v, %v", st, err)
	}
}

func counts(l *lab) {
	s := l.sh("i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; echo all")
	s.Limits.Pids = 16
	if out, _ := l.run(s); !strings.Contains(out, "can't fork") || strings.Contains(out, "all") {
		l.Errorf("40 processes of 16: %q", out)
	}
	s = l.sh("ulimit -n; df -k /dev/shm | awk 'NR==2 {print $2}'")
	s.Limits = runtime.Limits{Files: 1234, ShmSize: 128 * api.MiB}
	l.prints("files and shared memory", s, "1234\n131072\n")
	out, _ := l.run(l.sh("ulimit -n; df -k /dev/shm | awk 'NR==2 {print $2}'; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null"))
	var files, shm, pids int
	if _, err := fmt.Sscan(out, &files, &shm, &pids); err != nil || files <= 1024 || shm != 65536 || pids != 4096 {
		l.Errorf("by default: %q, %v", out, err)
	}
}

func otherOOM(l *lab) {
	ch := l.follow()
	s := l.spec("wait", "exit", "3")
	s.Limits.Memory = 48 * api.MiB
	l.start(s)
	if _, _, code := l.exec(s.ID, runtime.ExecSpec{Args: []string{"/guest", "hog"}}); code != 137 {
		l.Errorf("the further process ended with %d", code)
	}
	l.told(ch, runtime.EventOOM, s.ID)
	if st, err := l.Engine.Stats(l.ctx(), s.ID); err != nil || st.OOMKills != 1 {
		l.Errorf("the main process goes on: %+v, %v", st, err)
	}
	well := l.spec("wait")
	well.Limits.Memory = 48 * api.MiB
	l.start(well)
	l.exec(well.ID, runtime.ExecSpec{Args: []string{"/guest", "hog"}})
	if err := l.Engine.Signal(l.ctx(), well.ID, syscall.SIGTERM); err != nil {
		l.Fatal(err)
	}
	if c := l.ended(well.ID); c.OOM || c.ExitCode != 0 {
		l.Errorf("one that ended well: %+v", c)
	}
}

func networkFiles(l *lab) {
	s := l.sh("hostname; cat /etc/hostname /etc/hosts; cat /etc/resolv.conf 2>&1")
	out, _ := l.run(s)
	if want := string(s.ID) + "\n" + string(s.ID) + "\n" + string(runtime.DefaultHosts(string(s.ID))) + "cat: can't open '/etc/resolv.conf': No such file or directory\n"; out != want {
		l.Errorf("got %q, want %q", out, want)
	}
	s = l.sh("hostname; cat /etc/hosts /etc/resolv.conf")
	s.Network = runtime.Network{Hostname: "web-1", Hosts: []byte("10.0.0.1 db\n"), ResolvConf: []byte("nameserver 10.0.0.2\n")}
	l.prints("given", s, "web-1\n10.0.0.1 db\nnameserver 10.0.0.2\n")
}

func networkSpaces(l *lab) {
	own := l.sh("ls /sys/class/net; ip addr show lo | grep -c 'UP.*LOWER_UP'; ip addr show lo | grep -c 127.0.0.1; cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
	l.prints("a namespace of its own", own, "lo\n1\n1\n0\n")
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		l.Fatal(err)
	}
	s := l.sh("readlink /proc/self/ns/net; hostname")
	s.Network = runtime.Network{Host: true, Hostname: "box"}
	l.prints("the node's", s, host+"\nbox\n")
}

func initProcess(l *lab) {
	s := l.sh("cat /proc/1/comm; exit 9")
	s.Init = true
	if out, c := l.run(s); out != ".slipway-init\n" || c.ExitCode != 9 {
		l.Errorf("got %q and %+v", out, c)
	}
	l.prints("without", l.sh("echo $$"), "1\n")
}

func unrunnable(l *lab) {
	ref := l.pulled(Image{Files: []File{{Name: "garbage", Text: "\x01\x02 not a program"}, {Name: "no-interpreter", Text: "#!/bin/nothing\n"}}})
	running := l.sh("sleep 1000")
	running.Image = ref
	l.start(running)
	for _, command := range []string{"not-there", "/not/there", "/etc", "/garbage", "/no-interpreter", "/etc/hostname/x"} {
		s := l.spec()
		s.Image, s.Entrypoint, s.Command = ref, []string{}, []string{command}
		err := l.Engine.Create(l.ctx(), s)
		if err == nil {
			l.removeAtEnd(s.ID)
			_, err = l.Engine.Start(l.ctx(), s.ID)
		}
		var b bytes.Buffer
		code, execErr := l.Engine.Exec(l.ctx(), running.ID, runtime.ExecSpec{Args: []string{command}, Streams: runtime.Streams{Stderr: &b}})
		if command == "/garbage" || command == "/no-interpreter" {
			// The engine sees it too late to refuse; the last line of the output says it.
			if c := l.ended(s.ID); err != nil || c.ExitCode == 0 || execErr != nil || code == 0 {
				l.Errorf("run %s: %+v, %v; exec: code %d, %v", command, c, err, code, execErr)
			}
			if _, stderr := l.logged(s); !strings.Contains(stderr, "exec "+command) || !strings.Contains(b.String(), "exec "+command) {
				l.Errorf("run %s says %q, exec %q", command, stderr, b.String())
			}
			continue
		}
		l.coded("exec "+command, execErr, api.CodeInvalid)
		l.coded("run "+command, err, api.CodeInvalid)
		if err != nil && !strings.Contains(err.Error(), "cannot be run") {
			l.Errorf("run %s: %v", command, err)
		}
	}
}

// slow takes 32 KiB at a time and then rests: longer than an engine may wait for a process
// that has ended but whose children hold its output.
type slow struct{ n int }

// Write implements io.Writer.
func (s *slow) Write(p []byte) (int, error) {
	for range (s.n+len(p))>>15 - s.n>>15 {
		time.Sleep(600 * time.Millisecond) // the reader's pace is what is tested
	}
	s.n += len(p)
	return len(p), nil
}

func execSlow(l *lab) {
	s := l.start(l.spec("wait"))
	var out slow
	want := len(flood(20000))
	if _, err := l.Engine.Exec(l.ctx(), s.ID, runtime.ExecSpec{Args: []string{"/guest", "flood", "20000"}, Streams: runtime.Streams{Stdout: &out}}); err != nil {
		l.Fatal(err)
	}
	if out.n != want {
		l.Errorf("%d bytes came of %d", out.n, want)
	}
}

func execChildren(l *lab) {
	s := l.sh("sleep 1000")
	l.start(s)
	begin := time.Now()
	out, _, code := l.exec(s.ID, runtime.ExecSpec{Args: []string{"/bin/sh", "-c", "sleep 1000 & echo parent; exit 4"}})
	if out != "parent\n" || code != 4 || time.Since(begin) > 10*time.Second {
		l.Errorf("got %q, code %d after %s", out, code, time.Since(begin))
	}
	var b bytes.Buffer
	if _, err := l.Engine.Exec(l.ctx(), s.ID, runtime.ExecSpec{Args: []string{"/bin/ps"}, Streams: runtime.Streams{Stdout: &b}}); err != nil || strings.Count(b.String(), "sleep 1000") != 2 {
		l.Errorf("the child is not alive: %q, %v", b.String(), err)
	}
}
