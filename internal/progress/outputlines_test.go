package progress

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/redact"
)

// TestOutputLines: what a step writes to standard error in the middle of a line of its standard
// output is a line of its own, and what has no newline comes when the step ends.
func TestOutputLines(t *testing.T) {
	lines := NewOutputLines(nil)
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

// TestFitLines: a secret stays hidden where control characters cut it, a carriage return takes back
// what comes before it, and a line that does not end is cut.
func TestFitLines(t *testing.T) {
	masked := &redact.Set{}
	masked.Add("hunter2-token")
	lines := NewOutputLines(masked)
	var got []string
	add := func(pieces ...string) {
		for _, p := range pieces {
			got = append(got, lines.Add("web", StepOutput{Stream: 1, Data: []byte(p)})...)
		}
	}
	add("esc hunt\x1b[0mer2-token\n", "nul hunter2\x00-to", "\x01ken\n")
	add("10 %\r20 %", "\r", "30 %\r\n", "web | forged\rx\n")
	want := []string{"esc [redacted]", "nul [redacted]", "30 %", "x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	add(strings.Repeat("x", maxLine+10), "\n")
	if len(got) != 2 || len(got[0]) != maxLine || len(got[1]) != 10 {
		t.Errorf("%d lines", len(got))
	}
	add("hunt\x1b[0mer2-token")
	if u := lines.Unfinished("web", StepOutput{Stream: 1}); u != "[redacted]" {
		t.Error(u)
	}
	if diff := cmp.Diff([]string{"[redacted]"}, lines.End("web", "")); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkProgressBar: what takes back its line again and again costs no more than lines.
func BenchmarkProgressBar(b *testing.B) {
	lines, data := NewOutputLines(nil), []byte(strings.Repeat("progress 1 of 60000 .......\r", 40))
	for b.Loop() {
		lines.Add("web", StepOutput{Data: data})
		lines.Unfinished("web", StepOutput{})
	}
}
