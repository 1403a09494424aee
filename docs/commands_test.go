package docs

import (
	"reflect"
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
