package progress

import (
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// plain writes a log: one line an event, the image's name before each, no
// control characters.
type plain struct {
	w     io.Writer
	width int
	text  func(string) string // makes it fit for the log
	steps map[imageStep]*step
	logs  map[string]*imageLog
	wrote time.Time // when anything was written last
}

type imageStep struct {
	image string
	step  digest.Digest
}

type step struct{ started, done, failed bool }

// silence is how long a log may say nothing while a run goes on.
const silence = 30 * time.Second

func newPlain(w io.Writer, images []string) *plain {
	p := &plain{w: w, width: len("ecsbuild"), text: format.Clean, steps: map[imageStep]*step{},
		logs: map[string]*imageLog{}, wrote: time.Now()}
	for _, n := range images {
		p.width = max(p.width, len(n))
	}
	return p
}

func (p *plain) line(image, text string) {
	if image == "" {
		image = "ecsbuild"
	}
	_, _ = fmt.Fprintf(p.w, "%-*s | %s\n", p.width, image, p.text(text))
	p.wrote = time.Now()
}

// say writes a line of an image and keeps it for its log.
func (p *plain) say(image, text string) {
	p.line(image, text)
	p.log(image).add(text)
}

func (p *plain) log(image string) *imageLog {
	if p.logs[image] == nil {
		p.logs[image] = &imageLog{}
	}
	return p.logs[image]
}

func (p *plain) draw(r *Run, e event) {
	switch {
	case e.warns:
		p.say(e.image, warned+e.note)
	case e.note != "" && e.state != report.Failed:
		p.say(e.image, e.note)
	}
	if e.status == nil {
		return
	}
	p.status(r, e, true)
	for _, w := range e.status.Warnings {
		if r.mine(e.image, w.Step) {
			p.say(e.image, warned+w.Text)
		}
	}
}

// status writes the steps that began, what they said, if output is wanted, and
// those that ended. What another image shows goes into this one's log alone.
func (p *plain) status(r *Run, e event, output bool) {
	put := func(d digest.Digest, text string, show bool) {
		if show && r.mine(e.image, d) {
			p.line(e.image, text)
		}
		p.log(e.image).add(text)
	}
	for _, v := range e.status.Steps {
		s := p.step(e.image, v.ID)
		if s.failed && v.Started != nil && v.Completed == nil { // another try, as after a lost builder
			*s = step{}
		}
		if v.Started != nil && !s.started && !v.Cached && v.Kind != InternalStep {
			s.started = true
			put(v.ID, v.Name, true)
		}
	}
	for _, l := range r.written {
		put(l.step, "  "+l.text, output)
	}
	for _, v := range e.status.Steps {
		s := p.step(e.image, v.ID)
		if v.Completed == nil || s.done || v.Kind == InternalStep && v.Error == "" {
			continue
		}
		s.done, s.failed = true, v.Error != ""
		for _, text := range r.left[v.ID] {
			put(v.ID, "  "+text, output)
		}
		if text := outcome(v); text != "" {
			put(v.ID, v.Name+": "+text, true)
		}
	}
}

// tick breaks a long silence with what the run is at.
func (p *plain) tick(r *Run, now time.Time) {
	if now.Sub(p.wrote) < silence {
		return
	}
	passed, said := "still running after "+format.Duration(now.Sub(r.began)), false
	for _, i := range append([]*image{r.image("")}, r.images...) {
		if len(i.active) > 0 {
			p.line(i.name, passed+": "+activity(r, i, now))
			said = true
		}
	}
	if !said {
		p.line("", passed)
	}
	p.wrote = now
}

// close writes the log of each image that failed once more and whole, where
// other images' lines lie between its own.
func (p *plain) close(r *Run) {
	if len(r.images) < 2 {
		return
	}
	for _, i := range r.images {
		if i.state == report.Failed && len(p.log(i.name).all()) > 0 {
			p.line("", "the whole log of "+i.name+":")
			for _, text := range p.log(i.name).all() {
				p.line(i.name, text)
			}
		}
	}
}

// logSize bounds what is kept of an image's log, in bytes: its beginning goes.
const logSize = 1 << 20

type imageLog struct {
	lines []string
	size  int
	lost  int
}

func (l *imageLog) add(text string) {
	l.lines, l.size = append(l.lines, text), l.size+len(text)
	for l.size > logSize && len(l.lines) > 1 {
		l.size -= len(l.lines[0])
		l.lines, l.lost = l.lines[1:], l.lost+1
	}
}

func (l *imageLog) all() []string {
	if l.lost == 0 {
		return l.lines
	}
	return append([]string{fmt.Sprintf("… %d lines before", l.lost)}, l.lines...)
}

func (p *plain) step(image string, d digest.Digest) *step {
	key := imageStep{image, d}
	if p.steps[key] == nil {
		p.steps[key] = &step{}
	}
	return p.steps[key]
}

// outcome says how a step ended, "" for one that is not worth a line.
func outcome(v BuildStep) string {
	switch {
	case v.Canceled:
		return "stopped"
	case v.Error != "":
		return "failed"
	case v.Cached:
		return "cached"
	case v.Started != nil:
		if d := v.Completed.Sub(*v.Started); d >= 100*time.Millisecond {
			return format.Duration(d)
		}
	}
	return ""
}
