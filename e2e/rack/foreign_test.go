package rack

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestAppsOfOthers deploys open-source services that nobody wrote for this rack: their source
// comes from the module proxy, and is built in the rack.
func TestAppsOfOthers(t *testing.T) {
	t.Parallel()
	r := start(t)
	out, err := exec.Command(bin.Dir+"/slipwayd", "image", "push", "--dir", r.dir+"/rack", "busybox", "golang").CombinedOutput()
	if err != nil {
		t.Fatalf("image push: %v\n%s", err, out)
	}
	r.echoes()
	r.queues()
}

// echoes deploys a service that tells a request what it looks like.
func (r *rack) echoes() {
	r.must("", "deploy", "../../examples/httpbin", "-a", "httpbin")
	base := fmt.Sprintf("https://web.httpbin.localhost:%d", r.https)
	contains(r.t, "get", fetch(base+"/get?colour=blue"), "200 ", `"colour"`, `"blue"`, "X-Forwarded-Proto", `"https"`)
	contains(r.t, "a status", fetch(base+"/status/418"), "418 ")
	if got := fetch(base + "/stream/5"); strings.Count(got, "\n") != 5 {
		r.t.Errorf("a stream of 5 lines: %s", got)
	}
	if got := fetch(base + "/bytes/100000"); len(got) != len("200 ")+100000 {
		r.t.Errorf("100000 bytes came as %d", len(got)-len("200 "))
	}
}

// queues deploys a queue with a web interface and a worker.
func (r *rack) queues() {
	r.must("", "deploy", "../../examples/queue", "-a", "queue")
	r.awaitState("worker that waits for jobs", 30*time.Second, func() (string, bool) {
		stats := fetch(fmt.Sprintf("https://queue.queue.localhost:%d/stats?format=json&topic=jobs", r.https))
		return stats + "\n" + r.must("", "ps", "--all", "-a", "queue"), strings.Contains(stats, `"channel_name":"worker"`)
	})
	r.publish("first-job")
	r.worked("first-job")
	contains(r.t, "the web interface", fetch(fmt.Sprintf("https://web.queue.localhost:%d/api/topics", r.https)), "200 ", "jobs")

	// What was not worked off yet is in a volume, and outlives the process that has it.
	r.must("", "scale", "worker", "--count", "0", "-a", "queue")
	r.awaitState("end of the worker", 30*time.Second, func() (string, bool) {
		out := r.must("", "ps", "-s", "worker", "-a", "queue", "--json")
		return out, strings.TrimSpace(out) == "[]"
	})
	r.publish("second-job")
	old := document[[]struct{ ID string }](r, "ps", "-s", "queue", "-a", "queue", "--json")[0].ID
	r.must("", "restart", "queue", "-a", "queue")
	r.awaitState("another process of the queue", 40*time.Second, func() (string, bool) {
		out := r.must("", "ps", "-s", "queue", "-a", "queue", "--json")
		return out, !strings.Contains(out, old) && strings.Contains(out, `"ready": true`)
	})
	r.must("", "scale", "worker", "--count", "1", "-a", "queue")
	r.worked("second-job")
}

func (r *rack) publish(job string) {
	r.t.Helper()
	client := r.client()
	defer client.CloseIdleConnections()
	resp, err := client.Post(fmt.Sprintf("https://queue.queue.localhost:%d/pub?topic=jobs", r.https), "", strings.NewReader(job))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		r.t.Fatalf("publish: %s", resp.Status)
	}
}

// worked waits until the worker has told of a job.
func (r *rack) worked(job string) {
	r.t.Helper()
	r.awaitState("work on "+job, 40*time.Second, func() (string, bool) {
		out := r.must("", "logs", "-s", "worker", "--no-follow", "--since", "10m", "-a", "queue")
		return out, strings.Contains(out, " "+job+"\n")
	})
}
