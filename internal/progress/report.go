package progress

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// Report returns the report of a run that has ended, after Close. Results are by
// the name of the image; failure is "" for a run that went well.
func (p *Display) Report(results map[string]report.Result, failure string) report.Report {
	r := p.run
	fit := func(s string) string { return p.masked.String(format.Clean(strings.ReplaceAll(s, "\n", " "))) }
	out := report.Report{Version: 1, Generator: "ecsbuild", Began: r.began.UTC(), Seconds: r.since(r.ended),
		Status: "done", Sent: r.sent(), Phases: []report.Phase{}, Images: []report.Image{}, Spans: []report.Span{}}
	if failure != "" {
		out.Status, out.Error = "failed", fit(failure)
	}
	for _, ph := range r.phases() {
		out.Phases = append(out.Phases, report.Phase{Name: ph.name, Seconds: ph.time.Seconds()})
	}
	for _, i := range r.images {
		res := results[i.name]
		img := report.Image{Name: i.name, Status: i.state, Text: fit(i.text), Image: res.Image, Digest: res.Digest,
			Size: res.Size, Sent: i.sent, Steps: 0}
		if failure != "" && (i.state == report.Waiting || i.state == report.Building) {
			img.Status, img.Text = report.Stopped, map[report.State]string{report.Waiting: "not started"}[i.state]
		}
		if !i.ended.IsZero() {
			img.Seconds = r.since(i.ended)
		}
		cached := map[string]bool{} // by name: of a step that BuildKit has merged with another's, it tells twice
		for _, s := range i.steps {
			if s.step == Instruction { // one that could be cached
				cached[s.Name] = cached[s.Name] || s.cached
			}
		}
		for _, c := range cached {
			img.Steps++
			if c {
				img.Cached++
			}
		}
		out.Images = append(out.Images, img)
	}
	critical := r.critical()
	for _, s := range r.spans {
		end := s.end
		if end.IsZero() {
			end = r.ended
		}
		out.Spans = append(out.Spans, report.Span{Image: s.Image, Kind: s.Kind, Name: format.Clean(s.Name),
			Start: max(0, r.since(s.start)), Seconds: max(0, end.Sub(s.start).Seconds()),
			Bytes: s.sent.Load(), Cached: s.cached, Critical: critical[s], Internal: s.step == InternalStep,
			Error: fit(s.failed)})
	}
	slices.SortStableFunc(out.Spans, func(a, b report.Span) int { return cmp.Compare(a.Start, b.Start) })
	return out
}

func (r *Run) since(t time.Time) float64 { return t.Sub(r.began).Seconds() }

// slack is how long after one span another may begin that waited for it.
const slack = 100 * time.Millisecond

// critical goes back from the end of the run: what ended last, what that had
// waited for, and so on.
func (r *Run) critical() map[*Span]bool {
	out := map[*Span]bool{}
	at := r.ended
	var last *Span
	for {
		var next *Span
		for _, s := range r.spans {
			if out[s] || s.end.IsZero() || s.end.After(at) || s.cached {
				continue
			}
			// What belongs to the same image is what it waited for, more likely.
			if next == nil || s.end.Sub(next.end) > slack || next.end.Sub(s.end) <= slack && last != nil &&
				s.Image == last.Image && next.Image != last.Image {
				next = s
			}
		}
		if next == nil || !next.start.Before(at) && len(out) > 0 {
			return out
		}
		out[next], last = true, next
		at = next.start.Add(slack / 2)
		if !at.After(r.began) || len(out) > 1000 {
			return out
		}
	}
}
