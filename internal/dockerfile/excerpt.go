package dockerfile

import (
	"os"
	"strings"
)

// A Line of a Dockerfile; At marks the ones that failed.
type Line struct {
	Number int
	Text   string
	At     bool
}

// findStep looks for the instruction that a step such as "[2/4] RUN make" is.
func FindStep(dockerfile, step string) []Line {
	_, instruction, ok := strings.Cut(step, "] ")
	data, err := os.ReadFile(dockerfile)
	if !ok || err != nil || len(data) > 1<<20 {
		return nil
	}
	fold := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for i, line := range strings.Split(string(data), "\n") {
		if l := fold(strings.TrimSuffix(strings.TrimSpace(line), "\\")); strings.Contains(l, " ") && strings.HasPrefix(fold(instruction), l) {
			return Excerpt(string(data), i+1, i+1)
		}
	}
	return nil
}

// excerpt takes the marked lines and two around them.
func Excerpt(text string, from, to int) (out []Line) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	to = max(from, to)
	for n := max(1, from-2); n <= min(len(lines), to+2); n++ {
		out = append(out, Line{Number: n, Text: lines[n-1], At: n >= from && n <= to})
	}
	return out
}
