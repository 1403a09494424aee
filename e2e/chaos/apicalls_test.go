package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/api"
	rackapi "slipway/api/client"
)

// Of clients of real servers, in real time.
const (
	callMin, callMax = time.Second, 8 * time.Second
	// restMax bounds the pause between two calls.
	restMax = 100 * time.Millisecond
	// windowOf is how long an object is called before the next one takes its place.
	windowOf = 4 * time.Second
	// deployedFor is the same of apps that were built before; deployed is how many there are.
	deployedFor = 12 * time.Second
	deployed    = 24
)

// caller makes calls through the API.
type caller struct {
	*rackapi.Client
	rand    *rand.Rand
	history *history
	name    int
	began   time.Time
	// numbers are the releases of deployed apps by their IDs: "v1" and so on.
	numbers map[api.ReleaseID]string
	made    map[api.AppName]bool // apps that are known to be there
}

func (c *caller) run(ctx context.Context) {
	defer c.Close()
	for ctx.Err() == nil {
		c.call(c.draw(), between(c.rand, callMin, callMax))
		time.Sleep(between(c.rand, 0, restMax)) // a load, not an order
	}
}

// draw makes up a call on one of the objects of the moment.
func (c *caller) draw() input {
	since := time.Since(c.began)
	return c.drawAmong(int(since/windowOf), int(since/deployedFor)%deployed)
}

func (c *caller) drawAmong(window, slot int) input {
	switch c.rand.IntN(6) {
	case 0, 1:
		in := input{key: fmt.Sprintf("fleet-%d", window), op: pick(c.rand, []string{"create", "create", "lock", "unlock", "delete", "get", "get", "list", "list"})}
		if in.op != "list" {
			in.arg = strconv.Itoa(c.rand.IntN(fleetSize))
		}
		return in
	case 2, 3:
		in := input{key: fmt.Sprintf("env-%d-%d", window/2, c.rand.IntN(2)), op: pick(c.rand, []string{"add", "swap", "swap", "get", "get"})}
		if in.op != "get" {
			in.arg = fmt.Sprint("K", c.history.tick())
		}
		return in
	case 4:
		in := input{key: fmt.Sprintf("rollout-%d", slot), op: pick(c.rand, []string{"promote", "get"})}
		if in.op == "promote" {
			in.arg = fmt.Sprint("v", 1+c.rand.IntN(releasesEach))
		}
		return in
	}
	in := input{key: fmt.Sprintf("size-%d", slot), op: pick(c.rand, []string{"set", "get"})}
	if in.op == "set" {
		in.arg = strconv.Itoa(1 + c.rand.IntN(200))
		if c.rand.IntN(10) == 0 {
			in.arg = scaleInvalid
		}
	}
	return in
}

func (c *caller) call(in input, patience time.Duration) output {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if kindOf(in.key) == "env" && !c.made[api.AppName(in.key)] {
		if err := c.ensure(ctx, api.AppName(in.key)); err != nil {
			return output{}
		}
	}
	if in.op == "swap" { // what it is compared with is read before
		env, _, err := c.Env(ctx, api.AppName(in.key), "")
		if err != nil {
			return output{}
		}
		in.arg = fmt.Sprint(len(env), " ", in.arg)
	}
	call := c.history.begin(c.name, in)
	value, err := c.do(ctx, in)
	out := output{}
	if code, known := apiCode(err); known {
		out = output{known: true, code: code, value: value}
	}
	if in.op == "create" && out.code == api.CodeNotFound {
		out = output{} // it was made, and gone when the answer was to be read
	}
	c.history.end(call, out)
	if !out.known {
		c.name = c.history.client()
	}
	return out
}

// ensure makes the app of an environment.
func (c *caller) ensure(ctx context.Context, app api.AppName) error {
	for {
		_, err := c.CreateApp(ctx, app)
		if err == nil || api.CodeOf(err) == api.CodeConflict {
			c.made[app] = true
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

// do makes one call and returns what it delivers, in the words of the specs.
func (c *caller) do(ctx context.Context, in input) (string, error) {
	switch kindOf(in.key) {
	case "fleet":
		return c.doFleet(ctx, in)
	case "env":
		return c.doEnv(ctx, in)
	}
	_, number, _ := strings.Cut(in.key, "-")
	name := deployedName(number)
	switch {
	case kindOf(in.key) == "rollout":
		return c.doRollout(ctx, name, in)
	case in.op == "set":
		count, err := strconv.Atoi(in.arg)
		if err == nil {
			_, err = c.Scale(ctx, name, service, rackapi.Scale{Count: &count})
		}
		return "", err
	}
	list, err := c.Services(ctx, name)
	if err != nil || len(list) != 1 {
		return fmt.Sprint(len(list), " services"), err
	}
	return strconv.Itoa(list[0].Count), nil
}

func deployedName(number string) api.AppName { return api.AppName("deployed-" + number) }

func (c *caller) doFleet(ctx context.Context, in input) (string, error) {
	if in.op == "list" {
		list, err := c.Apps(ctx)
		var f fleet
		for _, a := range list {
			if rest, ok := strings.CutPrefix(string(a.Name), in.key+"-"); ok {
				i, err := strconv.Atoi(rest)
				if err != nil {
					return "", err
				}
				f[i] = memberOf(a)
			}
		}
		return f.String(), err
	}
	name := api.AppName(in.key + "-" + in.arg)
	switch in.op {
	case "create":
		_, err := c.CreateApp(ctx, name)
		return "", err
	case "delete":
		return "", c.DeleteApp(ctx, name)
	case "lock", "unlock":
		return "", c.LockApp(ctx, name, in.op == "lock")
	}
	a, err := c.App(ctx, name)
	if api.CodeOf(err) == api.CodeNotFound {
		return member{}.String(), nil
	}
	return memberOf(a).String(), err
}

func memberOf(a api.AppInfo) member {
	return member{exists: true, locked: a.Locked, deleting: a.Status == "deleting"}
}

func (c *caller) doEnv(ctx context.Context, in input) (string, error) {
	name := api.AppName(in.key)
	if in.op == "get" {
		env, _, err := c.Env(ctx, name, "")
		return strings.Join(slices.Sorted(maps.Keys(env)), " "), err
	}
	change := rackapi.EnvChange{Set: map[string]string{in.arg: "1"}}
	if count, variable, ok := strings.Cut(in.arg, " "); ok {
		change = rackapi.EnvChange{Set: map[string]string{variable: "1"}, IfRelease: "v" + count}
		if count == "0" {
			change.IfRelease = "none"
		}
	}
	r, err := c.SetEnv(ctx, name, change)
	if err != nil {
		return "", err
	}
	return fmt.Sprint("v", r.Number), nil
}

func (c *caller) doRollout(ctx context.Context, name api.AppName, in input) (string, error) {
	var d api.Deployment
	var err error
	if in.op == "promote" {
		d, err = c.Promote(ctx, name, in.arg)
	} else {
		d, err = c.Deployment(ctx, name, "")
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprint(d.ID, " ", c.numbers[d.Release]), nil
}

// events lists what a follower must have been told of: each write that was acknowledged and makes
// something that has a name of its own.
func (h *history) events() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, op := range h.operations {
		in, result := op.Input.(input), op.Output.(output)
		if !result.known || result.code != "" {
			continue
		}
		switch in.op {
		case "create":
			out = append(out, "app.created "+in.key+"-"+in.arg)
		case "add", "swap":
			words := strings.Fields(in.arg)
			out = append(out, "release.created "+in.key+" "+words[len(words)-1])
		case "promote":
			deployment, _, _ := strings.Cut(result.value, " ")
			out = append(out, "deployment.started "+deployment)
		}
	}
	return out
}
