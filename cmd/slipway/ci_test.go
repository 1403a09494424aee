package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"

	"slipway/docs"
)

const ciPage = "../../docs/ci.md"

// ciJobs returns the shell of the workflows in docs/ci.md: that of each block of YAML, job by job,
// without the installation of the program.
func ciJobs() ([]string, error) {
	page, err := os.ReadFile(ciPage)
	if err != nil {
		return nil, err
	}
	var jobs []string
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		var file map[string]yaml.Node
		if err := yaml.Unmarshal([]byte(m[1]), &file); err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(func(yield func(string) bool) {
			for name := range file {
				if !yield(name) {
					return
				}
			}
		}) {
			node := file[name]
			if name == "jobs" {
				text, err := stepsShell(node)
				if err != nil {
					return nil, err
				}
				jobs = append(jobs, text)
				continue
			}
			var job struct{ Script []string }
			if node.Decode(&job) == nil && len(job.Script) > 0 {
				jobs = append(jobs, strings.Join(job.Script, "\n")+"\n")
			}
		}
	}
	return jobs, nil
}

// stepsShell joins the steps of GitHub's jobs. What a step appends to $GITHUB_ENV is the
// environment of the next.
func stepsShell(node yaml.Node) (string, error) {
	var jobs map[string]struct {
		Steps []struct{ Name, Uses, Run string }
	}
	if err := node.Decode(&jobs); err != nil {
		return "", err
	}
	var text strings.Builder
	for _, job := range jobs {
		for _, step := range job.Steps {
			if step.Run != "" && !strings.HasPrefix(step.Name, "install") {
				text.WriteString(step.Run + "if [ -f \"$GITHUB_ENV\" ]; then . \"$GITHUB_ENV\"; fi\n")
			}
		}
	}
	return text.String(), nil
}

// TestCIDoc reads every command of docs/ci.md as a shell and the programs would. What the CLI of
// Convox takes is known from its documentation.
func TestCIDoc(t *testing.T) {
	page, err := os.ReadFile(ciPage)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := ciJobs()
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) != 5 {
		t.Fatalf("%d jobs: %q", len(jobs), jobs)
	}
	all := string(page)
	for _, job := range jobs {
		sh := exec.Command("sh", "-n")
		sh.Stdin = strings.NewReader(job)
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("a shell does not read it: %v\n%s\n%s", err, out, job)
		}
		all += "\n```sh\n" + regexp.MustCompile(`(?m)^\w+=\$\((.*)\)$`).ReplaceAllString(job, "$1") + "```\n"
	}
	n := 0
	for _, args := range docs.Commands(all, "slipway") {
		n++
		if err := parses(args); err != nil {
			t.Errorf("slipway %s: %v", strings.Join(args, " "), err)
		}
	}
	if n < 12 {
		t.Errorf("only %d commands", n)
	}
	flags := map[string][]string{"build": {"-a", "--description", "--id"}, "run": {"-a", "--release"}, "releases": {"-a"}}
	n = 0
	for _, args := range docs.Commands(all, "convox") {
		n++
		for _, arg := range args[1:] {
			if strings.HasPrefix(arg, "-") && !slices.Contains(flags[args[0]], arg) {
				t.Errorf("convox %s: %s is no flag of it", strings.Join(args, " "), arg)
			}
		}
	}
	if n < 6 {
		t.Errorf("only %d commands of convox", n)
	}
}

// ci writes the shell of a job of docs/ci.md to a file, the first being 1: ci FILE JOB. The
// pretended migration is a command that the agents know.
func ci(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ci FILE JOB")
	}
	jobs, err := ciJobs()
	ts.Check(err)
	i := int(args[1][0] - '1')
	if i < 0 || i >= len(jobs) {
		ts.Fatalf("there are %d jobs", len(jobs))
	}
	text := strings.ReplaceAll(jobs[i], "bin/migrate", "echo migrated")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("set -e\n"+text), 0o600))
}
