package rack

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestKilledAtAnyMomentOfADeployment kills the daemon a few milliseconds later each time, through
// everything that it does between the word of a user and a copy that serves: network, container,
// start, probe, route. The deployment goes on where it was, with the whole environment.
func TestKilledAtAnyMomentOfADeployment(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.scale = "      cpu: 50\n      memory: 64\n"
	r.must("", "deploy", r.source("shop", 1, "    drain: 1\n"), "-a", "shop")
	for i := range 30 {
		version := fmt.Sprint("v", i)
		r.must("", "env", "set", "VERSION="+version, "-a", "shop")
		r.must("", "releases", "promote", "--wait=false", "-a", "shop")
		time.Sleep(time.Duration(i*4) * time.Millisecond) // the moment of the kill
		r.kill()
		r.launch()
		deadline := time.Now().Add(40 * time.Second)
		for !strings.HasPrefix(r.get("shop"), version+" ") {
			if time.Now().After(deadline) {
				t.Fatalf("killed %d ms into the deployment of %s, and 40 s later:\n%s%s",
					i*4, version, r.must("", "why", "-a", "shop"), r.must("", "ps", "--all", "-a", "shop"))
			}
			time.Sleep(20 * time.Millisecond) // polls
		}
	}
}
