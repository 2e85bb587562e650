// Package progress turns what happens in a run into what a person or a
// machine reads: one stream of events, one goroutine that draws.
package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// Mode is how a run is shown.
type Mode string

// The modes of --progress. Auto is TTY on a terminal, GitHub in a job of
// GitHub Actions, and Plain elsewhere.
const (
	Auto   Mode = "auto"
	TTY    Mode = "tty"
	Plain  Mode = "plain"
	Quiet  Mode = "quiet"
	JSON   Mode = "json"
	GitHub Mode = "github"
)

// A Severity says how much a note matters.
type Severity int

// The severities of notes.
const (
	Info    Severity = iota
	Warning          // the run goes on, and somebody should know
)

// A NoteFunc takes a line for the user.
type NoteFunc func(severity Severity, text string)

// An event is one thing that happened; which one, the field that is set says.
type event struct {
	image  string // "" for the run as a whole
	at     time.Time
	status *BuildStatus
	note   string
	warns  bool         // the note is a warning
	state  report.State // of the image; note says more
	began  *Span
	ended  *Span

	failure string // with ended
}

// drawer is one mode's way to show events. All its methods are called from one
// goroutine, after the run has taken the event.
type drawer interface {
	draw(*Run, event)
	tick(*Run, time.Time) // now and then, for what moves by itself
	close(*Run)
}

// Where a display draws, and how.
type Output struct {
	W        io.Writer
	Terminal bool
	Colors   bool
	GitHub   bool // a job of GitHub Actions

	Dockerfiles map[string]string // of each image, as annotations name them
	Secrets     *redact.Set       // masked in everything but Status, which comes without them
}

// text makes what a build says fit for the log.
func (o Output) text() func(string) string {
	if o.GitHub {
		return format.InertInline
	}
	return format.Clean
}

// Display shows one run. Its methods may be called from any goroutine.
type Display struct {
	events chan event
	done   chan struct{}
	masked *redact.Set
	run    *Run // the drawing goroutine's, and everybody's after Close

	mu     sync.Mutex
	closed bool
}

// New starts a display for images of the given names.
func New(mode Mode, out Output, images []string) (*Display, error) {
	if mode == Auto || mode == "" {
		switch {
		case out.Terminal:
			mode = TTY
		case out.GitHub:
			mode = GitHub
		default:
			mode = Plain
		}
	}
	var d drawer
	every := time.Second
	switch mode {
	case TTY:
		t, err := newTTY(out)
		if err != nil {
			return nil, fmt.Errorf("--progress tty needs a terminal: %w", err)
		}
		d, every = t, frame
	case Plain:
		p := newPlain(out.W, images)
		p.text = out.text()
		d = p
	case GitHub:
		d = newGitHub(out, images)
	case Quiet:
		d = quiet{out.W, out.text()}
	case JSON:
		d = newJSON(out.W)
	}
	p := &Display{events: make(chan event, 64), done: make(chan struct{}), masked: out.Secrets,
		run: newRun(images, out.Secrets, time.Now())}
	go p.draw(d, every)
	return p, nil
}

func (p *Display) draw(d drawer, every time.Duration) {
	defer close(p.done)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case e, ok := <-p.events:
			if !ok {
				p.run.ended = time.Now()
				d.close(p.run)
				return
			}
			p.run.take(e)
			d.draw(p.run, e)
		case now := <-ticker.C:
			d.tick(p.run, now)
		}
	}
}

func (p *Display) send(e event) {
	if e.at.IsZero() {
		e.at = time.Now()
	}
	e.note, e.failure = p.masked.String(e.note), p.masked.String(e.failure)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.events <- e
	}
}

// Close waits until everything is drawn. Events that come later are dropped.
func (p *Display) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.events)
	}
	p.mu.Unlock()
	<-p.done
}

// Note shows a line about an image, or about the run where image is "".
func (p *Display) Note(image string, severity Severity, text string) {
	p.send(event{image: image, note: text, warns: severity == Warning})
}

// Image says what has become of an image.
func (p *Display) Image(image string, state report.State, text string) {
	p.send(event{image: image, state: state, note: text})
}

// Begin starts a span of size bytes, 0 where there are none or nobody knows.
func (p *Display) Begin(image string, kind report.Kind, name string, size int64) *Span {
	s := &Span{Image: image, Kind: kind, Name: p.masked.String(name), size: size, start: time.Now(), display: p}
	p.send(event{image: image, began: s, at: s.start})
	return s
}

// Status takes BuildKit's news of one image's build, in which secrets are masked.
func (p *Display) Status(image string, s *BuildStatus) {
	p.send(event{image: image, status: s})
}

// Summary is the last line of a run that went well: what it sent, and where its
// time went. It is to be had after Close.
func (p *Display) Summary() string {
	r := p.run
	text := fmt.Sprintf("pushed %d of %d images, %s sent in %s", len(r.images), len(r.images), format.Bytes(r.sent()),
		format.Duration(r.ended.Sub(r.began)))
	var parts []string
	for _, ph := range r.phases() {
		parts = append(parts, ph.name+" "+format.Duration(ph.time))
	}
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return text
}

// quiet shows warnings alone.
type quiet struct {
	w    io.Writer
	text func(string) string
}

func (q quiet) draw(r *Run, e event) {
	for _, text := range warnings(r, e) {
		_, _ = fmt.Fprintln(q.w, "ecsbuild: "+q.text(text))
	}
}

func (quiet) tick(*Run, time.Time) {}
func (quiet) close(*Run)           {}

// warnings are those of an event: a note that says so, and BuildKit's of a Dockerfile.
func warnings(r *Run, e event) (out []string) {
	prefix := ""
	if e.image != "" {
		prefix = e.image + ": "
	}
	if e.warns {
		out = append(out, prefix+warned+e.note)
	}
	if e.status != nil {
		for _, w := range e.status.Warnings {
			if r.mine(e.image, w.Step) {
				out = append(out, prefix+warned+w.Text)
			}
		}
	}
	return out
}

// warned is how the line of a warning begins.
const warned = "warning: "
