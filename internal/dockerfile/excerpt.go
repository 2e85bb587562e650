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
	want := fold(instruction)
	lines := strings.Split(string(d.Data), "\n")
	prefix := 0 // the first line that the step begins with
	for first := 0; first < len(lines); first++ {
		text, more := strings.CutSuffix(strings.TrimSpace(lines[first]), "\\")
		last := first
		for whole := text; ; last++ {
			if fold(whole) == want {
				return Excerpt(string(d.Data), first+1, last+1)
			}
			if !more || last+1 == len(lines) {
				break
			}
			var next string
			next, more = strings.CutSuffix(strings.TrimSpace(lines[last+1]), "\\")
			whole += next
		}
		if start := fold(text); prefix == 0 && strings.Contains(start, " ") && strings.HasPrefix(want, start) {
			prefix = first + 1
		}
	}
	if prefix == 0 {
		return nil
	}
	return Excerpt(string(d.Data), prefix, prefix)
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
