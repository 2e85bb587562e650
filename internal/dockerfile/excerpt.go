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
	want := fold(instruction)
	lines := strings.Split(string(d.Data), "\n")
	prefix := 0 // the first line that the step begins with
	for first := range lines {
		text, _ := strings.CutSuffix(strings.TrimSpace(lines[first]), "\\")
		start := fold(text)
		if start == "" || start[0] == '#' {
			continue
		}
		if n := matchInstruction(lines[first:], want); n > 0 {
			return Excerpt(string(d.Data), first+1, first+n)
		}
		if prefix == 0 && strings.Contains(start, " ") && strings.HasPrefix(want, start) {
			prefix = first + 1
		}
	}
	if prefix == 0 {
		return nil
	}
	return Excerpt(string(d.Data), prefix, prefix)
}

// fold writes white space in one way.
func fold(s string) string { return strings.Join(strings.Fields(s), " ") }

// matchInstruction returns the number of lines, with their continuations, that are an
// instruction; 0 for none.
func matchInstruction(lines []string, want string) int {
	space := false // before the next line
	for i, line := range lines {
		if i > 0 && strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue // a comment between two lines of an instruction
		}
		text, more := strings.CutSuffix(strings.TrimSpace(line), "\\")
		piece := fold(text)
		if space && piece != "" {
			piece = " " + piece
		}
		rest, ok := strings.CutPrefix(want, piece)
		switch {
		case ok && rest == "":
			return i + 1
		case !ok || !more:
			return 0
		}
		want = rest
		space = piece == "" && space || strings.TrimRight(text, " \t") != text
	}
	return 0
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
