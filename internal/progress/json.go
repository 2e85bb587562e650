package progress

import (
	"bytes"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// A Line is one event of --progress json. Fields that do not apply are absent.
type Line struct {
	Time time.Time `json:"time"`
	// "note", "warning", "image", "step", "output", "prepare", "look", "push", "upload", "gate", "tags", "cache", "error" or "end"
	Type    string  `json:"type"`
	Image   string  `json:"image,omitempty"` // absent for the run as a whole
	Step    string  `json:"step,omitempty"`  // the step's name; of an upload the digest, where it is known
	Status  string  `json:"status,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Bytes   int64   `json:"bytes,omitempty"` // of an upload that has ended
	Text    string  `json:"text,omitempty"`

	// Of an error.
	Why    string   `json:"why,omitempty"`
	Detail []string `json:"detail,omitempty"` // the Dockerfile around it, and the end of the output
	Do     []string `json:"do,omitempty"`     // what to do; lines that begin with a space are to be pasted
	File   string   `json:"file,omitempty"`
	Number int      `json:"line,omitempty"` // in File, from 1
}

// WriteLine writes a line of --progress json.
func WriteLine(w io.Writer, l Line) {
	if l.Time.IsZero() {
		l.Time = time.Now()
	}
	l.Time = l.Time.UTC()
	l.Step, l.Text = redact.URL(l.Step), redact.URL(l.Text)
	var b bytes.Buffer
	_ = format.JSON(&b, l, "")
	// the same, and no command to GitHub's runner
	_, _ = w.Write(bytes.ReplaceAll(b.Bytes(), []byte("##["), []byte(`##\u005b`)))
}

// End is the last line, of a display that has been closed; nil for one that
// never began.
func (p *Display) End() Line {
	l := Line{Type: "end"}
	if p != nil {
		l.Seconds, l.Bytes = p.run.ended.Sub(p.run.began).Seconds(), p.run.sent()
	}
	return l
}

type jsonLines struct {
	w     io.Writer
	names map[digest.Digest]string
	state map[digest.Digest]string

	started map[digest.Digest]bool
}

func newJSON(w io.Writer) *jsonLines {
	return &jsonLines{w: w, names: map[digest.Digest]string{}, state: map[digest.Digest]string{},
		started: map[digest.Digest]bool{}}
}

// lookup is how long BuildKit may look for a step's result before it begins the
// step itself, which then ends a second time.
const cacheLookupTime = time.Millisecond

func (j *jsonLines) draw(r *Run, e event) {
	emit := func(l Line) {
		l.Image = e.image
		if l.Time.IsZero() {
			l.Time = e.at
		}
		WriteLine(j.w, l)
	}
	switch {
	case e.state != "":
		emit(Line{Type: "image", Status: string(e.state), Text: e.note})
	case e.warns:
		emit(Line{Type: "warning", Text: e.note})
	case e.note != "":
		emit(Line{Type: "note", Text: e.note})
	case e.began != nil:
		emit(Line{Type: string(e.began.Kind), Step: e.began.Name, Status: "started"})
	case e.ended != nil:
		s := e.ended
		l := Line{Type: string(s.Kind), Step: s.Name, Status: "done", Seconds: s.end.Sub(s.start).Seconds(),
			Bytes: s.sent.Load(),
			Text:  e.failure}
		if e.failure != "" {
			l.Status = "failed"
		}
		emit(l)
	case e.status != nil:
		j.status(r, e, emit)
	}
}

// status tells of the steps that began, what they said, and those that ended.
func (j *jsonLines) status(r *Run, e event, emit func(Line)) {
	ended := func(v BuildStep) bool { return v.Completed != nil }
	for _, v := range e.status.Steps {
		j.names[v.ID] = v.Name
		if r.mine(e.image, v.ID) && !ended(v) {
			j.step(v, emit)
		}
	}
	for _, l := range r.written {
		if r.mine(e.image, l.step) {
			emit(Line{Type: "output", Step: j.names[l.step], Text: l.text, Time: l.time})
		}
	}
	for _, v := range e.status.Steps {
		if !r.mine(e.image, v.ID) || !ended(v) {
			continue
		}
		for _, text := range r.left[v.ID] {
			emit(Line{Type: "output", Step: v.Name, Text: text, Time: *v.Completed})
		}
		j.step(v, emit)
	}
	for _, w := range e.status.Warnings {
		if r.mine(e.image, w.Step) {
			emit(Line{Type: "warning", Step: j.names[w.Step], Text: w.Text})
		}
	}
}

func (j *jsonLines) step(v BuildStep, emit func(Line)) {
	l := Line{Type: "step", Step: v.Name}
	switch {
	case v.Error != "" && v.Completed != nil:
		l.Status, l.Text, l.Time = "failed", v.Error, *v.Completed
		if v.Canceled {
			l.Status, l.Text = string(report.Stopped), ""
		}
	case v.Cached && v.Completed != nil:
		l.Status, l.Time = "cached", *v.Completed
	case v.Completed != nil && v.Started != nil:
		l.Status, l.Time, l.Seconds = "done", *v.Completed, v.Completed.Sub(*v.Started).Seconds()
	case v.Started != nil:
		l.Status, l.Time = "started", *v.Started
	}
	// A step whose result was looked for and not found is started again: it is
	// told to start once, unless it has failed, and another try begins.
	if was := j.state[v.ID]; was == "failed" || was == string(report.Stopped) {
		j.started[v.ID] = false
	}
	if l.Status == "done" && v.Kind == InternalStep && v.Completed.Sub(*v.Started) < cacheLookupTime {
		return
	}
	if l.Status == "" || l.Status == j.state[v.ID] || l.Status == "started" && j.started[v.ID] {
		return
	}
	j.state[v.ID] = l.Status
	j.started[v.ID] = j.started[v.ID] || l.Status == "started"
	emit(l)
}

func (j *jsonLines) tick(*Run, time.Time) {}
func (j *jsonLines) close(*Run)           {} // the caller knows how the run ended
