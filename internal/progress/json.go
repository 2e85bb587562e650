package progress

import (
	"bytes"
	"encoding/json"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// A Line is one event of --progress json. Fields that do not apply are absent.
type Line struct {
	Time    time.Time `json:"time"`
	Type    string    `json:"type"`            // "note", "image", "step", "output", "warning", "prepare", "look", "push", "upload", "tags" or "end"
	Image   string    `json:"image,omitempty"` // absent for the run as a whole
	Step    string    `json:"step,omitempty"`  // the step's name; of an upload the digest, where it is known
	Status  string    `json:"status,omitempty"`
	Seconds float64   `json:"seconds,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"` // of an upload that has ended
	Text    string    `json:"text,omitempty"`
}

type jsonLines struct {
	enc   *json.Encoder
	names map[digest.Digest]string
	state map[digest.Digest]string

	started map[digest.Digest]bool
}

func newJSON(w io.Writer) *jsonLines {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &jsonLines{enc: enc, names: map[digest.Digest]string{}, state: map[digest.Digest]string{}, started: map[digest.Digest]bool{}}
}

// lookup is how long BuildKit may look for a step's result before it begins the
// step itself, which then ends a second time.
const lookup = time.Millisecond

func (j *jsonLines) draw(_ *Run, e event) {
	emit := func(l Line) {
		l.Image = e.image
		if l.Time.IsZero() {
			l.Time = e.at
		}
		l.Time = l.Time.UTC()
		_ = j.enc.Encode(l)
	}
	switch {
	case e.state != "":
		emit(Line{Type: "image", Status: e.state, Text: e.note})
	case e.note != "":
		emit(Line{Type: "note", Text: e.note})
	case e.began != nil:
		emit(Line{Type: e.began.Kind, Step: e.began.Name, Status: "started"})
	case e.ended != nil:
		s := e.ended
		l := Line{Type: s.Kind, Step: s.Name, Status: "done", Seconds: s.end.Sub(s.start).Seconds(), Bytes: s.sent.Load(), Text: e.failure}
		if e.failure != "" {
			l.Status = "failed"
		}
		emit(l)
	}
	if e.status == nil {
		return
	}
	for _, v := range e.status.Vertexes {
		j.names[v.Digest] = v.Name
		l := Line{Type: "step", Step: v.Name}
		switch {
		case v.Error != "" && v.Completed != nil:
			l.Status, l.Text, l.Time = "failed", v.Error, *v.Completed
		case v.Cached && v.Completed != nil:
			l.Status, l.Time = "cached", *v.Completed
		case v.Completed != nil && v.Started != nil:
			l.Status, l.Time, l.Seconds = "done", *v.Completed, v.Completed.Sub(*v.Started).Seconds()
		case v.Started != nil:
			l.Status, l.Time = "started", *v.Started
		}
		// A step whose result was looked for and not found is started anew: it
		// is told to start once.
		if l.Status == "done" && internal(v.Name) && v.Completed.Sub(*v.Started) < lookup {
			continue
		}
		if l.Status == "" || l.Status == j.state[v.Digest] || l.Status == "started" && j.started[v.Digest] {
			continue
		}
		j.state[v.Digest] = l.Status
		j.started[v.Digest] = j.started[v.Digest] || l.Status == "started"
		emit(l)
	}
	for _, l := range e.status.Logs {
		for _, text := range bytes.Split(bytes.TrimSuffix(l.Data, []byte("\n")), []byte("\n")) {
			emit(Line{Type: "output", Step: j.names[l.Vertex], Text: string(text), Time: l.Timestamp})
		}
	}
	for _, w := range e.status.Warnings {
		emit(Line{Type: "warning", Step: j.names[w.Vertex], Text: string(w.Short)})
	}
}

func (j *jsonLines) tick(*Run, time.Time) {}

// close ends the stream with the whole run.
func (j *jsonLines) close(r *Run) {
	_ = j.enc.Encode(Line{Time: r.ended.UTC(), Type: "end", Seconds: r.ended.Sub(r.began).Seconds(), Bytes: r.sent()})
}
