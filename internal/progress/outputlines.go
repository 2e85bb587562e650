package progress

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/redact"
)

// OutputLines makes lines of what the steps of images write, fit to be shown.
// Standard output and error are kept apart, since a step may write to one in the
// middle of the other's line.
type OutputLines struct {
	masked     *redact.Set
	unfinished map[outputStream][]byte
}

type outputStream struct {
	image  string
	step   digest.Digest
	number int
}

// maxLine is where a line ends that goes on, in bytes.
const maxLine = 64 << 10

// NewOutputLines masks what the set has, once more where a control character in
// the middle of a secret has hidden it so far.
func NewOutputLines(masked *redact.Set) OutputLines {
	return OutputLines{masked, map[outputStream][]byte{}}
}

// Add returns the lines that some output ends.
func (l OutputLines) Add(image string, o StepOutput) (lines []string) {
	key := outputStream{image, o.Step, o.Stream}
	line := l.unfinished[key]
	for data := o.Data; len(data) > 0; {
		text, rest, ended := bytes.Cut(data, []byte("\n"))
		if room := maxLine - len(line); len(text) > room {
			text, rest, ended = data[:room], data[room:], true
		}
		data = rest
		line = append(line, text...)
		// A carriage return takes back what comes before it, unless a newline follows.
		if i := bytes.LastIndexByte(line[:max(0, len(line)-1)], '\r'); i >= 0 {
			line = append(line[:0], line[i+1:]...)
		}
		if ended {
			lines = append(lines, l.fit(line))
			line = line[:0]
		}
	}
	l.unfinished[key] = line
	return lines
}

func (l OutputLines) fit(line []byte) string { return l.masked.String(format.Clean(string(line))) }

// Unfinished is the line that a stream of a step has begun.
func (l OutputLines) Unfinished(image string, o StepOutput) string {
	return l.fit(l.unfinished[outputStream{image, o.Step, o.Stream}])
}

// End returns what a step that has ended left without a newline.
func (l OutputLines) End(image string, step digest.Digest) (lines []string) {
	byNumber := func(a, b outputStream) int { return cmp.Compare(a.number, b.number) }
	for _, s := range slices.SortedFunc(maps.Keys(l.unfinished), byNumber) {
		if s.image != image || s.step != step {
			continue
		}
		if line := l.unfinished[s]; len(line) > 0 {
			lines = append(lines, l.fit(line))
		}
		delete(l.unfinished, s)
	}
	return lines
}
