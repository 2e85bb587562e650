package dockerfile

import "strings"

// A Line of a Dockerfile; At marks the ones that failed.
type Line struct {
	Number int
	Text   string
	At     bool
}

// FindStep looks for the instruction that a step such as "[2/4] RUN make" is.
func (d *File) FindStep(step string) []Line {
	_, instruction, ok := strings.Cut(step, "] ")
	if d == nil || !ok || len(d.Data) > 1<<20 {
		return nil
	}
	fold := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for i, line := range strings.Split(string(d.Data), "\n") {
		if l := fold(strings.TrimSuffix(strings.TrimSpace(line), "\\")); strings.Contains(l, " ") && strings.HasPrefix(fold(instruction), l) {
			return Excerpt(string(d.Data), i+1, i+1)
		}
	}
	return nil
}

// Excerpt takes the marked lines and two around them.
func Excerpt(text string, from, to int) (out []Line) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	to = max(from, to)
	for n := max(1, from-2); n <= min(len(lines), to+2); n++ {
		out = append(out, Line{Number: n, Text: lines[n-1], At: n >= from && n <= to})
	}
	return out
}
