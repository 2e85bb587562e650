package progress

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// TestOutputLines: what a step writes to standard error in the middle of a line of its standard
// output is a line of its own, and what has no newline comes when the step ends.
func TestOutputLines(t *testing.T) {
	lines := OutputLines{}
	make1, test := digest.FromString("make"), digest.FromString("test")
	var got []string
	for _, o := range []StepOutput{
		{Step: make1, Stream: 1, Data: []byte("one\ncut ")},
		{Step: make1, Stream: 2, Data: []byte("failed\nexit ")},
		{Step: test, Stream: 1, Data: []byte("ok")},
		{Step: make1, Stream: 1, Data: []byte("in two\nrest")},
	} {
		got = append(got, lines.Add("web", o)...)
	}
	got = append(got, lines.End("web", make1)...)
	if diff := cmp.Diff([]string{"one", "failed", "cut in two", "rest", "exit "}, got); diff != "" {
		t.Error(diff)
	}
	if u := lines.Unfinished("web", StepOutput{Step: test, Stream: 1}); u != "ok" {
		t.Errorf("another step's line is %q", u)
	}
	if more := lines.End("web", make1); more != nil {
		t.Errorf("told twice: %q", more)
	}
}
