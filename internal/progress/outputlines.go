package progress

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// OutputLines makes lines of what the steps of images write. Standard output and
// error are kept apart, since a step may write to one in the middle of the other's
// line.
type OutputLines map[outputStream]string // what has no newline yet

type outputStream struct {
	image  string
	step   digest.Digest
	number int
}

// Add returns the lines that some output ends.
func (l OutputLines) Add(image string, o StepOutput) []string {
	key := outputStream{image, o.Step, o.Stream}
	lines := strings.Split(l[key]+string(o.Data), "\n")
	l[key] = lines[len(lines)-1]
	return lines[:len(lines)-1]
}

// Unfinished is the line that a stream of a step has begun.
func (l OutputLines) Unfinished(image string, o StepOutput) string {
	return l[outputStream{image, o.Step, o.Stream}]
}

// End returns what a step that has ended left without a newline.
func (l OutputLines) End(image string, step digest.Digest) (lines []string) {
	streams := slices.SortedFunc(maps.Keys(l), func(a, b outputStream) int { return cmp.Compare(a.number, b.number) })
	for _, s := range streams {
		if s.image != image || s.step != step {
			continue
		}
		if l[s] != "" {
			lines = append(lines, l[s])
		}
		delete(l, s)
	}
	return lines
}
