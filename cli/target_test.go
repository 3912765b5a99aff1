package cli

import (
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

func TestTargetFlagsRepeatAndKeepCommas(t *testing.T) {
	t.Parallel()
	var c Commands
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse([]string{
		"send", "-c", "a.b", "-u", "ann, bob",
		"--user=x", "-g", "blue", "--group=red",
		"--except-connection=c", "--except-user=u,v", "--except-group=g", "-m", "a=1,b", "-m",
		"c=d=e", "text",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := TargetFlags{
		Connection: []string{"a.b"}, User: []string{"ann, bob", "x"},
		Group:            []string{"blue", "red"},
		ExceptConnection: []string{"c"}, ExceptUser: []string{"u,v"}, ExceptGroup: []string{"g"},
	}
	if diff := cmp.Diff(want, c.Send.TargetFlags); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"a": "1,b", "c": "d=e"}, c.Send.Metadata); diff != "" {
		t.Error(diff)
	}
}
