package progress

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// A Span is something that a run spent time on. Whoever began it adds bytes to
// it and ends it; a nil Span does nothing.
type Span struct {
	Image string
	Kind  report.Kind
	Name  string

	start, end time.Time
	step       StepKind
	cached     bool
	failed     string
	size       int64 // bytes that it will be, 0 where nobody knows
	sent       atomic.Int64

	display *Display
}

// Add counts bytes that have gone.
func (s *Span) Add(n int64) {
	if s != nil {
		s.sent.Add(n)
	}
}

// End ends the span.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	e := event{image: s.Image, ended: s, at: time.Now()}
	if err != nil {
		e.failure = err.Error()
	}
	s.display.send(e)
}

// Run is what is known of a run so far: one goroutine writes it, and whatever draws it
// reads it there.
type Run struct {
	began  time.Time
	ended  time.Time
	images []*image
	spans  []*Span // in the order in which they began

	byName map[string]*image
	steps  map[digest.Digest]*Span
	pulls  map[digest.Digest]map[string]Transfer
	output OutputLines

	// Of the status that was taken last.
	written []writtenLine
	left    map[digest.Digest][]string // what steps that have ended wrote without a newline
}

type image struct {
	name   string
	state  report.State
	text   string // what was said of it last
	output string // the last line of a step's output
	ended  time.Time
	steps  []*Span
	active map[*Span]bool
	sent   int64 // by uploads that have ended
}

func newRun(names []string, masked *redact.Set, now time.Time) *Run {
	r := &Run{began: now, byName: map[string]*image{}, steps: map[digest.Digest]*Span{},
		pulls: map[digest.Digest]map[string]Transfer{}, output: NewOutputLines(masked)}
	for _, n := range names {
		r.image(n)
	}
	return r
}

func (r *Run) image(name string) *image {
	i := r.byName[name]
	if i == nil {
		i = &image{name: name, state: report.Waiting, active: map[*Span]bool{}}
		r.byName[name] = i
		if name != "" {
			r.images = append(r.images, i)
		}
	}
	return i
}

// mine says whether a step is shown under an image: images with a common base
// share steps, which are shown once, under the one that came first.
func (r *Run) mine(image string, d digest.Digest) bool {
	s := r.steps[d]
	return s == nil || s.Image == image
}

// take brings an event into the picture.
func (r *Run) take(e event) {
	img := r.image(e.image)
	switch {
	case e.began != nil:
		r.spans = append(r.spans, e.began)
		img.active[e.began] = true
	case e.ended != nil:
		e.ended.end, e.ended.failed = e.at, e.failure
		delete(img.active, e.ended)
		if e.ended.Kind == report.Upload {
			img.sent += e.ended.sent.Load()
		}
	case e.state != "":
		img.state, img.text, img.ended = e.state, e.note, e.at
	case e.status != nil:
		r.status(img, e)
	}
}

func (r *Run) status(img *image, e event) {
	if img.state == report.Waiting {
		img.state = report.Building
	}
	for _, v := range e.status.Steps {
		r.vertex(img, v)
	}
	for _, s := range e.status.Transfers {
		if step := r.steps[s.Step]; step == nil || step.Kind != report.Base {
			continue
		}
		if r.pulls[s.Step] == nil {
			r.pulls[s.Step] = map[string]Transfer{}
		}
		r.pulls[s.Step][s.ID] = s
	}
	r.written, r.left = nil, map[digest.Digest][]string{}
	for _, o := range e.status.Output {
		lines := r.output.Add(e.image, o)
		for _, text := range lines {
			r.written = append(r.written, writtenLine{o.Step, text, o.Time})
		}
		for _, text := range append(lines, r.output.Unfinished(e.image, o)) {
			if strings.TrimSpace(text) != "" {
				img.output = text
			}
		}
	}
	for _, v := range e.status.Steps {
		if v.Completed != nil {
			r.left[v.ID] = r.output.End(e.image, v.ID)
		}
	}
}

// A writtenLine is one of a step's output.
type writtenLine struct {
	step digest.Digest
	text string
	time time.Time
}

func (r *Run) vertex(img *image, v BuildStep) {
	s := r.steps[v.ID]
	if s == nil {
		if v.Started == nil {
			return
		}
		s = &Span{Image: img.name, Kind: report.Step, Name: v.Name, step: v.Kind}
		switch v.Kind {
		case BaseStep:
			s.Kind = report.Base
		case GateStep:
			s.Kind = report.Gate
		}
		r.steps[v.ID] = s
		r.spans = append(r.spans, s)
		s.start = *v.Started
	}
	if !slices.Contains(img.steps, s) {
		img.steps = append(img.steps, s)
	}
	if v.Started != nil && v.Started.Before(s.start) {
		s.start = *v.Started
	}
	s.cached = v.Cached
	if v.Error != "" && !v.Canceled {
		s.failed = v.Error
	}
	if v.Completed == nil {
		s.end = time.Time{} // restarted, where its result was looked for without result
		img.active[s] = true
		return
	}
	s.end = *v.Completed
	if img.active[s] {
		img.output = ""
	}
	delete(img.active, s)
}

// pulled is how much of a base image has come, in bytes.
func (r *Run) pulled(s *Span) (now, total int64) {
	for d, span := range r.steps {
		if span != s {
			continue
		}
		for _, st := range r.pulls[d] {
			now, total = now+st.Current, total+st.Total
		}
	}
	return now, total
}

// running are the spans of an image that run, longest first.
func (i *image) running() []*Span {
	return slices.SortedFunc(maps.Keys(i.active), func(a, b *Span) int {
		return cmp.Or(a.start.Compare(b.start), cmp.Compare(a.Name, b.Name))
	})
}

// uploading is what is on its way, in bytes; size is 0 where nobody knows.
func (i *image) uploading() (sent, size int64, since time.Time) {
	known := true
	for _, s := range i.running() {
		if s.Kind != report.Upload {
			continue
		}
		if since.IsZero() {
			since = s.start
		}
		sent, size, known = sent+s.sent.Load(), size+s.size, known && s.size > 0
	}
	if !known {
		size = 0
	}
	return sent, size, since
}

func (r *Run) sent() (n int64) {
	for _, s := range r.spans {
		if s.Kind == report.Upload {
			n += s.sent.Load()
		}
	}
	return n
}

// A phase is a part of a run's time.
type phase struct {
	name string
	time time.Duration
}

// phases say where the time went: what had to be known first, the builds, the
// layers that were on their way when the last build had ended, the gates, the tags, the
// caches.
func (r *Run) phases() []phase {
	var prepared, built, gated, tagged, cached time.Time
	for _, s := range r.spans {
		switch {
		case s.Kind == report.Prepare:
			prepared = later(prepared, s.end)
		case s.Kind == report.Step || s.Kind == report.Base || s.Kind == report.Look:
			built = later(built, s.end)
		case s.Kind == report.Gate && (gated.IsZero() || s.start.Before(gated)):
			gated = s.start
		case s.Kind == report.Tags && (tagged.IsZero() || s.start.Before(tagged)):
			tagged = s.start
		case s.Kind == report.Cache && (cached.IsZero() || s.start.Before(cached)):
			cached = s.start
		}
	}
	if tagged.IsZero() {
		tagged = r.ended // it did not get as far
	}
	if cached.IsZero() {
		cached = r.ended
	}
	if gated.IsZero() {
		gated = tagged
	}
	var out []phase
	at := r.began
	for _, p := range []struct {
		name string
		till time.Time
	}{{"prepare", prepared}, {"build", built}, {"push", gated}, {"gates", tagged}, {"tags", cached}, {"cache", r.ended}} {
		if p.till.After(at) {
			out = append(out, phase{p.name, p.till.Sub(at)})
			at = p.till
		}
	}
	return out
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
