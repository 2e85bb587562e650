// Package progress turns what happens in a run into what a person or a
// machine reads: one stream of events, one goroutine that draws.
package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// Mode is how a run is shown.
type Mode string

// The modes of --progress. Auto is TTY on a terminal and Plain elsewhere.
const (
	Auto  Mode = "auto"
	TTY   Mode = "tty"
	Plain Mode = "plain"
	Quiet Mode = "quiet"
	JSON  Mode = "json"
)

// An event is a step's change or a line for the user; one of the two is set.
type event struct {
	image  string // "" for the run as a whole
	status *bkclient.SolveStatus
	note   string
}

// drawer is one mode's way to show events.
type drawer interface {
	draw(event)
	close()
}

// Display shows one run. Its methods may be called from any goroutine.
type Display struct {
	events chan event
	done   chan struct{}

	mu     sync.Mutex
	closed bool
	owner  map[digest.Digest]string // whose step it is, where images share it
}

// New starts a display on w for images of the given names.
func New(mode Mode, w io.Writer, terminal bool, images []string) (*Display, error) {
	if mode == Auto || mode == "" {
		if mode = Plain; terminal {
			mode = TTY
		}
	}
	var d drawer
	switch mode {
	case TTY:
		t, err := newTTY(w)
		if err != nil {
			return nil, fmt.Errorf("--progress tty needs a terminal: %w", err)
		}
		d = t
	case Plain:
		d = newPlain(w, images)
	case Quiet:
		d = quiet{w}
	case JSON:
		d = newJSON(w)
	}
	p := &Display{events: make(chan event, 64), done: make(chan struct{}), owner: map[digest.Digest]string{}}
	go func() {
		defer close(p.done)
		for e := range p.events {
			d.draw(e)
		}
		d.close()
	}()
	return p, nil
}

func (p *Display) send(e event) {
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
func (p *Display) Note(image, text string) { p.send(event{image: image, note: text}) }

// Status takes BuildKit's news of one image's build. Images with a common base
// share steps; those are shown once, under the image that came first.
func (p *Display) Status(image string, s *bkclient.SolveStatus) {
	p.mu.Lock()
	mine := func(d digest.Digest) bool {
		if _, ok := p.owner[d]; !ok {
			p.owner[d] = image
		}
		return p.owner[d] == image
	}
	out := &bkclient.SolveStatus{}
	for _, v := range s.Vertexes {
		if mine(v.Digest) {
			out.Vertexes = append(out.Vertexes, v)
		}
	}
	for _, v := range s.Statuses {
		if mine(v.Vertex) {
			out.Statuses = append(out.Statuses, v)
		}
	}
	for _, v := range s.Logs {
		if mine(v.Vertex) {
			out.Logs = append(out.Logs, v)
		}
	}
	for _, v := range s.Warnings {
		if mine(v.Vertex) {
			out.Warnings = append(out.Warnings, v)
		}
	}
	p.mu.Unlock()
	p.send(event{image: image, status: out})
}

// quiet shows warnings alone.
type quiet struct{ w io.Writer }

func (q quiet) draw(e event) {
	if strings.HasPrefix(e.note, "warning: ") {
		_, _ = fmt.Fprintln(q.w, "ecsbuild: "+e.note)
	}
}
func (quiet) close() {}

// internal says whether a step is BuildKit's housekeeping.
func internal(name string) bool { return strings.HasPrefix(name, "[internal] ") }

// Bytes writes a size for people, with decimal units as registries count.
func Bytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1000
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
