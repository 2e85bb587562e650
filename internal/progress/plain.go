package progress

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// plain writes a log: one line an event, the image's name before each, no
// control characters.
type plain struct {
	w     io.Writer
	width int
	steps map[digest.Digest]*step
}

type step struct {
	name          string
	started, done bool
	partial       []byte // of an output line
}

func newPlain(w io.Writer, images []string) *plain {
	p := &plain{w: w, width: len("ecsbuild"), steps: map[digest.Digest]*step{}}
	for _, n := range images {
		p.width = max(p.width, len(n))
	}
	return p
}

func (p *plain) line(image, text string) {
	if image == "" {
		image = "ecsbuild"
	}
	_, _ = fmt.Fprintf(p.w, "%-*s | %s\n", p.width, image, clean(text))
}

func (p *plain) draw(e event) {
	if e.note != "" {
		p.line(e.image, e.note)
	}
	if e.status == nil {
		return
	}
	for _, v := range e.status.Vertexes {
		p.vertex(e.image, v)
	}
	for _, l := range e.status.Logs {
		s := p.step(l.Vertex)
		lines := bytes.Split(append(s.partial, l.Data...), []byte("\n"))
		s.partial = bytes.Clone(lines[len(lines)-1])
		for _, text := range lines[:len(lines)-1] {
			p.line(e.image, "  "+string(text))
		}
	}
	for _, w := range e.status.Warnings {
		p.line(e.image, "warning: "+string(w.Short))
	}
}

func (p *plain) step(d digest.Digest) *step {
	s := p.steps[d]
	if s == nil {
		s = &step{}
		p.steps[d] = s
	}
	return s
}

func (p *plain) vertex(image string, v *bkclient.Vertex) {
	s := p.step(v.Digest)
	s.name = v.Name
	if internal(v.Name) && v.Error == "" || s.done {
		return
	}
	if v.Started != nil && !s.started && !v.Cached {
		s.started = true
		p.line(image, v.Name)
	}
	if v.Completed == nil {
		return
	}
	s.done = true
	if len(s.partial) > 0 {
		p.line(image, "  "+string(s.partial))
		s.partial = nil
	}
	switch {
	case v.Error != "" && strings.Contains(v.Error, "context canceled"):
		p.line(image, v.Name+": stopped")
	case v.Error != "":
		p.line(image, v.Name+": failed")
	case v.Cached:
		p.line(image, v.Name+": cached")
	case v.Started != nil:
		if d := v.Completed.Sub(*v.Started); d >= 100*time.Millisecond {
			p.line(image, fmt.Sprintf("%s: %.1f s", v.Name, d.Seconds()))
		}
	}
}

func (p *plain) close() {}

// clean takes out what would move a terminal's cursor: a carriage return
// keeps what follows it, escape sequences and control characters go.
func clean(s string) string {
	s = strings.TrimRight(s, "\r\n")
	if i := strings.LastIndexByte(s, '\r'); i >= 0 {
		s = s[i+1:]
	}
	if strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			i = skipEscape(s, i)
			continue
		}
		if r := rune(s[i]); r >= ' ' && r != 0x7f || r == '\t' {
			b.WriteByte(s[i])
		}
		i++
	}
	return b.String()
}

// skipEscape gives the index after an ANSI escape sequence.
func skipEscape(s string, i int) int {
	i++
	if i >= len(s) {
		return i
	}
	switch s[i] {
	case '[':
		for i++; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
	case ']':
		for i++; i < len(s); i++ {
			if s[i] == 0x07 || s[i] == 0x1b {
				return i + 1
			}
		}
	default:
		return i + 1
	}
	return i
}
