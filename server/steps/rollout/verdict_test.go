package rollout

import (
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// trialOf builds a deployment whose processes have the given histories and returns the verdict
// at a time after its start, by a leader that has led since another.
func trialOf(t *testing.T, count int, after, leads time.Duration, processes ...api.Process) (*api.Failure, time.Time) {
	t.Helper()
	s := state.New()
	index := uint64(0)
	apply := func(c state.Command) {
		index++
		if r := s.Apply(index, state.Entry{At: t0, Command: c}); r.Err != nil || len(r.Dropped) > 0 {
			t.Fatalf("%s: %v %q", c.Type(), r.Err, r.Dropped)
		}
	}
	spec := api.ServiceSpec{
		Name: "web", Minimum: 50, Maximum: 200, Scale: api.Scale{Count: count},
		Health: api.Health{Grace: 5 * time.Second, Interval: 5 * time.Second, Timeout: 4 * time.Second},
	}
	apply(state.CreateApp{App: api.App{Name: "shop"}})
	apply(state.CreateRelease{Release: api.Release{ID: "R1", App: "shop", Services: []api.ServiceSpec{spec}}})
	apply(state.CreateDeployment{Deployment: api.Deployment{ID: "D1", App: "shop", Release: "R1"}})
	apply(state.RegisterNode{Node: api.Node{ID: "n1", Name: "n1", Capacity: api.Amount{CPU: 4000, Memory: api.GiB}}})
	for i, p := range processes {
		p.ID, p.App, p.Service, p.Kind, p.Release = api.ProcessID(rune('a'+i)), "shop", "web", api.KindService, "R1"
		once := p.Ready
		p.Ready = false
		apply(state.CreateProcess{Process: p})
		apply(state.ApplyPlan{Assign: []api.Assign{{Process: p.ID, Node: "n1"}}})
		if once {
			apply(state.SetReady{Ready: []api.ProcessID{p.ID}})
			apply(state.SetReady{Unready: []api.ProcessID{p.ID}})
		}
		if p.Desired != api.DesiredRun {
			apply(state.StopProcess{Process: p.ID, Reason: "stopped"})
		}
		apply(state.UpdateProcesses{Node: "n1", Statuses: map[api.ProcessID]api.ProcessStatus{p.ID: p.Observed}})
	}
	v := s.View()
	a, _ := v.App("shop")
	d, _ := v.Deployment("D1")
	p := &pass{v: v, app: a, in: steps.Input{Now: t0.Add(after), Leader: t0.Add(leads)}}
	return p.failure(d), p.wake
}

// exited is a copy that ended by itself after a time.
func exited(slot int, ready bool, lasted time.Duration) api.Process {
	return api.Process{Slot: slot, Ready: ready, Observed: api.ProcessStatus{
		State: api.StateExited, ExitCode: 1, Message: "exited with code 1", Started: t0, Finished: t0.Add(lasted),
	}}
}

func running(slot int, ready bool, health api.HealthState) api.Process {
	return api.Process{Slot: slot, Ready: ready, Observed: api.ProcessStatus{
		State: api.StateRunning, Health: health, Started: t0, Message: "GET /: refused",
	}}
}

func TestVerdicts(t *testing.T) {
	failed := api.Process{Slot: 1, Observed: api.ProcessStatus{State: api.StateFailed, Message: "pull image: not found"}}
	lost := api.Process{Slot: 1, Observed: api.ProcessStatus{State: api.StateLost, Message: "node n1 is down"}}
	stopped := exited(1, false, time.Second)
	stopped.Desired = api.DesiredDrain
	for name, c := range map[string]struct {
		count     int
		after     time.Duration
		processes []api.Process
		says      string // "" for no verdict
	}{
		"nothing happened":                 {1, 0, nil, ""},
		"one end is bad luck":              {1, time.Second, []api.Process{exited(1, false, time.Second)}, ""},
		"two are not":                      {1, time.Second, []api.Process{exited(1, false, 0), exited(1, false, 0)}, "keeps ending"},
		"nor in different slots":           {2, time.Second, []api.Process{exited(1, false, 0), exited(2, false, 0)}, "2 times"},
		"ready, but ends within seconds":   {1, time.Minute, []api.Process{exited(1, true, time.Second), exited(1, true, time.Second)}, "keeps ending"},
		"ready for a while, two slots":     {2, time.Minute, []api.Process{exited(1, true, time.Minute), exited(2, true, time.Minute)}, ""},
		"three times in one slot":          {1, time.Hour, []api.Process{exited(1, true, time.Minute), exited(1, true, time.Minute), exited(1, true, time.Minute)}, "3 times"},
		"cannot start":                     {1, 0, []api.Process{failed}, "could not start: pull image: not found"},
		"lost nodes do not count":          {1, 0, []api.Process{lost, lost, lost}, ""},
		"nor does what we stopped":         {1, 0, []api.Process{stopped, stopped}, ""},
		"unhealthy":                        {1, 0, []api.Process{running(1, false, api.HealthUnhealthy)}, "not healthy: GET /: refused"},
		"unhealthy after ready, tolerated": {2, 0, []api.Process{running(1, true, api.HealthUnhealthy)}, ""},
		"unhealthy after ready, the only":  {1, 0, []api.Process{running(1, true, api.HealthUnhealthy)}, "not healthy"},
		"silent, within patience":          {1, 50 * time.Second, []api.Process{running(1, false, api.HealthUnknown)}, ""},
		"silent for longer":                {1, 51 * time.Second, []api.Process{running(1, false, api.HealthUnknown)}, "did not become healthy within 51s"},
		"healthy, waiting for the routers": {1, time.Hour, []api.Process{running(1, false, api.HealthHealthy)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, wake := trialOf(t, c.count, c.after, 0, c.processes...)
			switch {
			case c.says == "" && f != nil:
				t.Errorf("verdict %q", f.Reason)
			case c.says != "" && (f == nil || !strings.Contains(f.Reason, c.says)):
				t.Errorf("verdict %+v, want one that says %q", f, c.says)
			}
			if strings.Contains(name, "within patience") && !wake.Equal(t0.Add(51*time.Second)) {
				t.Errorf("wakes at %s", wake)
			}
		})
	}
}

// TestNoPatienceRunsOutWhileNobodyLeads: a copy has been silent for an hour, for which there was
// no leader to report to. A new one waits as long as it would have from the start. The same
// holds for a node whose clock is an hour behind.
func TestNoPatienceRunsOutWhileNobodyLeads(t *testing.T) {
	silent := running(1, false, api.HealthUnknown)
	for name, c := range map[string]struct {
		after, leads time.Duration
		fails        bool
	}{
		"new leader":            {time.Hour, time.Hour, false},
		"patience goes on":      {time.Hour + 50*time.Second, time.Hour, false},
		"and ends":              {time.Hour + 51*time.Second, time.Hour, true},
		"the leader was always": {51 * time.Second, -time.Hour, true},
	} {
		if f, _ := trialOf(t, 1, c.after, c.leads, silent); (f != nil) != c.fails {
			t.Errorf("%s: verdict %+v", name, f)
		}
	}
	behind := silent
	behind.Observed.Started = t0.Add(-time.Hour)
	if f, _ := trialOf(t, 1, time.Second, -time.Hour, behind); f != nil {
		t.Errorf("a node whose clock is behind: verdict %+v", f)
	}
}
