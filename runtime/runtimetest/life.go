package runtimetest

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/api"
	"slipway/runtime"
)

func conflict(l *lab) {
	s := l.spec("out", "first", "wait")
	s.Labels = map[string]string{"which": "first"}
	l.start(s)
	second := l.spec("out", "second")
	second.ID, second.Labels = s.ID, map[string]string{"which": "second"}
	l.coded("create of an ID that is taken", l.Engine.Create(l.ctx(), second), api.CodeConflict)
	c, _ := l.find(s.ID)
	if c.State != runtime.ContainerRunning || c.Labels["which"] != "first" {
		l.Errorf("the first one is now %+v", c)
	}
	if out, _, code := l.exec(s.ID, runtime.ExecSpec{Args: []string{"/guest", "out", "alive"}}); out != "alive\n" || code != 0 {
		l.Errorf("the first one answers %q, code %d", out, code)
	}
}

func states(l *lab) {
	for _, code := range []int{0, 1, 7, 255} {
		s := l.spec("exit", map[int]string{0: "0", 1: "1", 7: "7", 255: "255"}[code])
		l.create(s)
		if c, _ := l.find(s.ID); c.State != runtime.ContainerCreated || c.Pid != 0 || c.Image != s.Image {
			l.Errorf("created: %+v", c)
		}
		before := time.Now().Add(-time.Second)
		l.launch(s.ID)
		c := l.ended(s.ID)
		if c.State != runtime.ContainerExited || c.ExitCode != code || c.Pid != 0 || c.OOM {
			l.Errorf("exit %d: %+v", code, c)
		}
		if c.ExitedAt.Before(before) || c.ExitedAt.After(time.Now().Add(time.Second)) {
			l.Errorf("exited at %s, now is %s", c.ExitedAt, time.Now())
		}
	}
	s := l.start(l.spec("wait"))
	if c, _ := l.find(s.ID); c.State != runtime.ContainerRunning || c.Pid <= 0 || c.ExitCode != 0 || !c.ExitedAt.IsZero() {
		l.Errorf("running: %+v", c)
	}
}

func wrongState(l *lab) {
	_, err := l.Engine.Start(l.ctx(), l.id())
	l.coded("start of nothing", err, api.CodeNotFound)
	s := l.create(l.spec("wait"))
	l.coded("signal before the start", l.Engine.Signal(l.ctx(), s.ID, syscall.SIGTERM), api.CodeNotFound)
	l.launch(s.ID)
	_, err = l.Engine.Start(l.ctx(), s.ID)
	l.coded("second start", err, api.CodeConflict)
	if err := l.Engine.Signal(l.ctx(), s.ID, syscall.SIGKILL); err != nil {
		l.Error(err)
	}
	l.ended(s.ID)
	_, err = l.Engine.Start(l.ctx(), s.ID)
	l.coded("start after the end", err, api.CodeConflict)
	l.coded("signal after the end", l.Engine.Signal(l.ctx(), s.ID, syscall.SIGTERM), api.CodeNotFound)
	l.coded("signal to nothing", l.Engine.Signal(l.ctx(), l.id(), syscall.SIGKILL), api.CodeNotFound)
	_, err = l.Engine.Stats(l.ctx(), l.id())
	l.coded("stats of nothing", err, api.CodeNotFound)
}

func signals(l *lab) {
	s := l.start(l.spec("out", "ready", "wait", "exit", "3"))
	l.says(s, "ready")
	if err := l.Engine.Signal(l.ctx(), s.ID, syscall.SIGTERM); err != nil {
		l.Fatal(err)
	}
	if c := l.ended(s.ID); c.ExitCode != 3 {
		l.Errorf("after SIGTERM: %+v", c)
	}
	if out, _ := l.logged(s); out != "ready\nterminated\n" {
		l.Errorf("it wrote %q", out)
	}
	s = l.start(l.spec("out", "ready", "stay"))
	l.says(s, "ready")
	if err := l.Engine.Signal(l.ctx(), s.ID, syscall.SIGTERM); err != nil {
		l.Fatal(err)
	}
	if out, _, _ := l.exec(s.ID, runtime.ExecSpec{Args: []string{"/guest", "out", "alive"}}); out != "alive\n" {
		l.Errorf("one that ignores SIGTERM says %q", out)
	}
	if err := l.Engine.Signal(l.ctx(), s.ID, syscall.SIGKILL); err != nil {
		l.Fatal(err)
	}
	if c := l.ended(s.ID); c.State != runtime.ContainerExited || c.ExitCode != 137 || c.OOM {
		l.Errorf("after SIGKILL: %+v", c)
	}
}

func remove(l *lab) {
	if err := l.Engine.Remove(l.ctx(), l.id()); err != nil {
		l.Errorf("remove of nothing: %v", err)
	}
	created, running, ended := l.create(l.spec("wait")), l.start(l.spec("out", "kept", "stay")), l.start(l.spec("exit", "0"))
	l.says(running, "kept")
	l.ended(ended.ID)
	for _, s := range []runtime.Spec{created, running, ended} {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := l.Engine.Remove(l.ctx(), s.ID); err != nil {
					l.Errorf("remove: %v", err)
				}
			})
		}
		wg.Wait()
		if c, there := l.find(s.ID); there {
			l.Errorf("still there: %+v", c)
		}
		_, err := l.Engine.Inspect(l.ctx(), s.ID)
		l.coded("inspect after remove", err, api.CodeNotFound)
	}
	if out, _ := l.logged(running); out != "kept\n" {
		l.Errorf("the log of the removed container has %q", out)
	}
	again := l.spec("exit", "5")
	again.ID = running.ID
	if _, c := l.run(again); c.ExitCode != 5 {
		l.Errorf("a new container with the same ID: %+v", c)
	}
}

func list(l *lab) {
	hostile := l.unique()
	hostile.Labels["containerd.io/restart.loguri"] = "binary:///bin/touch?/tmp/owned"
	hostile.Labels["containerd.io/restart.status"] = "running"
	hostile.Labels["slipway.app"] = "of-the-image"
	ref := l.pulled(hostile)
	want := map[string]string{"slipway.app": "shop", "quote": "\"=\n"}
	var ids []api.ProcessID
	for range 4 {
		s := l.spec("wait")
		s.Image, s.User, s.Labels = ref, "0", want
		ids = append(ids, l.create(s).ID)
	}
	list, err := l.Engine.List(l.ctx())
	if err != nil {
		l.Fatal(err)
	}
	if !slices.IsSortedFunc(list, func(a, b runtime.Container) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
		l.Errorf("not sorted: %+v", list)
	}
	for _, c := range list {
		if slices.Contains(ids, c.ID) && (!maps.Equal(c.Labels, want) || c.Image != ref) {
			l.Errorf("got %+v, want labels %v and image %s", c, want, ref)
		}
		if one, ok := l.find(c.ID); slices.Contains(ids, c.ID) && (!ok || one.State != c.State || one.Image != ref || !maps.Equal(one.Labels, want)) {
			l.Errorf("listed as %+v, inspected as %+v", c, one)
		}
	}
	_, err = l.Engine.Inspect(l.ctx(), l.id())
	l.coded("inspect of nothing", err, api.CodeNotFound)
}

func reopen(l *lab) {
	created, running, ending := l.create(l.spec("wait")), l.start(l.spec("out", "ready", "wait", "exit", "4")), l.start(l.spec("exit", "9"))
	l.says(running, "ready")
	l.ended(ending.ID)
	l.Engine = l.Reopen(l.T)
	if c, _ := l.find(created.ID); c.State != runtime.ContainerCreated {
		l.Errorf("created: %+v", c)
	}
	if c, _ := l.find(running.ID); c.State != runtime.ContainerRunning {
		l.Errorf("running: %+v", c)
	}
	if c, _ := l.find(ending.ID); c.State != runtime.ContainerExited || c.ExitCode != 9 {
		l.Errorf("exited: %+v", c)
	}
	l.launch(created.ID)
	if err := l.Engine.Signal(l.ctx(), running.ID, syscall.SIGTERM); err != nil {
		l.Fatal(err)
	}
	if c := l.ended(running.ID); c.ExitCode != 4 {
		l.Errorf("ended: %+v", c)
	}
}

func stats(l *lab) {
	s := l.spec("wait")
	s.Limits = runtime.Limits{Memory: 100 * api.MiB}
	l.start(s)
	var got runtime.Stats
	l.await("use of processor and memory", func() bool {
		var err error
		if got, err = l.Engine.Stats(l.ctx(), s.ID); err != nil {
			l.Fatal(err)
		}
		return got.CPU > 0 && got.Memory > 0
	}, func() any { return got })
	if got.MemoryLimit != 100*api.MiB || got.Processes < 1 || got.PeakMemory < got.Memory || got.OOMKills != 0 || time.Since(got.At) > time.Minute {
		l.Errorf("got %+v", got)
	}
	if err := l.Engine.Remove(l.ctx(), s.ID); err != nil {
		l.Fatal(err)
	}
	_, err := l.Engine.Stats(l.ctx(), s.ID)
	l.coded("stats after remove", err, api.CodeNotFound)
}
