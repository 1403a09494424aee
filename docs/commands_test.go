package docs

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	page := "Type `tool up` or `tool`, not `other up`; with `A=1 tool say 'two words'`.\n" +
		"```sh\ntool login HOST --ca ca.crt < token   # and more\n$ cd x && tool deploy -a x | tee log\n  tool set \\\n    --flag=1\n# tool is no command\n```\n" +
		"```yaml\ntool: no\n```\n`sudo tool a \"b c\" > file`"
	want := [][]string{
		{"login", "HOST", "--ca", "ca.crt"}, {"deploy", "-a", "x"}, {"set", "--flag=1"}, {"up"}, {"say", "two words"}, {"a", "b c"},
	}
	if got := Commands(page, "tool"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// TestOperateLinks follows what operate.md, and the runbooks, refer to.
func TestOperateLinks(t *testing.T) {
	page, err := os.ReadFile("operate.md")
	if err != nil {
		t.Fatal(err)
	}
	anchors, headings := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fenceRule.ReplaceAllString(string(page), ""), -1) {
		headings[m[1]] = true
		anchors[strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	links := regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(string(page), -1)
	if len(links) < 8 {
		t.Errorf("only %d links", len(links))
	}
	for _, m := range links {
		if !anchors[m[1]] {
			t.Errorf("operate.md has no #%s", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`((?:docs|packaging)/[a-z/.]+|CHANGELOG.md)`").FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat("../" + m[1]); err != nil {
			t.Errorf("operate.md refers to %s: %v", m[1], err)
		}
	}
	alerts, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`docs/operate.md, "([^"]*)"`).FindAllStringSubmatch(string(alerts), -1) {
		if !headings[m[1]] {
			t.Errorf("a runbook refers to %q of operate.md, which is not there", m[1])
		}
	}
}
