package progress

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
)

// A Report is a whole run: what --report writes. Times are seconds, from the
// beginning of the run where they say when.
type Report struct {
	Version int `json:"version"` // 1
	// Who wrote it: "ecsbuild", by which a later run knows that it may replace it.
	Generator string `json:"generator"`

	Began   time.Time     `json:"began"`
	Seconds float64       `json:"seconds"`
	Status  string        `json:"status"` // "done" or "failed"
	Error   string        `json:"error,omitempty"`
	Sent    int64         `json:"sent"` // bytes of layers and configs
	Phases  []ReportPhase `json:"phases"`
	Images  []ReportImage `json:"images"`
	Spans   []ReportSpan  `json:"spans"`
}

// A ReportPhase is a part of the run's time: prepare, build, push or tags.
type ReportPhase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// A ReportImage is what became of an image.
type ReportImage struct {
	Name    string  `json:"name"`
	Status  string  `json:"status"`
	Text    string  `json:"text,omitempty"`
	Image   string  `json:"image,omitempty"`  // REPOSITORY:TAG
	Digest  string  `json:"digest,omitempty"` // that the tag points at
	Size    int64   `json:"size,omitempty"`   // bytes of its layers in the registry
	Sent    int64   `json:"sent"`             // of which this run sent, with all that shares its repository
	Seconds float64 `json:"seconds"`          // when it was through
	Steps   int     `json:"steps"`
	Cached  int     `json:"cached"`
}

// A ReportSpan is something that took time.
type ReportSpan struct {
	Image    string  `json:"image,omitempty"` // absent for the run as a whole
	Kind     string  `json:"kind"`            // prepare, look, step, base, push, upload or tags
	Name     string  `json:"name"`
	Start    float64 `json:"start"`
	Seconds  float64 `json:"seconds"`
	Bytes    int64   `json:"bytes,omitempty"`
	Cached   bool    `json:"cached,omitempty"`
	Critical bool    `json:"critical,omitempty"` // the run waited for it
	Error    string  `json:"error,omitempty"`
}

// A Result is what the registry has of an image.
type Result struct {
	Image  string // REPOSITORY:TAG
	Digest string
	Size   int64 // bytes of its layers
}

// Report gives the account of a run that has ended, after Close. Results are by
// the name of the image; failure is "" for a run that went well.
func (p *Display) Report(results map[string]Result, failure string) Report {
	r := p.run
	out := Report{Version: 1, Generator: "ecsbuild", Began: r.began.UTC(), Seconds: r.since(r.ended), Status: "done", Sent: r.sent(), Phases: []ReportPhase{}, Images: []ReportImage{}, Spans: []ReportSpan{}}
	if failure != "" {
		out.Status, out.Error = "failed", Clean(strings.ReplaceAll(failure, "\n", " "))
	}
	for _, ph := range r.phases() {
		out.Phases = append(out.Phases, ReportPhase{ph.name, ph.time.Seconds()})
	}
	for _, i := range r.images {
		res := results[i.name]
		img := ReportImage{Name: i.name, Status: i.state, Text: Clean(i.text), Image: res.Image, Digest: res.Digest, Size: res.Size, Sent: i.sent, Steps: 0}
		if failure != "" && (i.state == Waiting || i.state == Building) {
			img.Status, img.Text = Stopped, map[string]string{Waiting: "was not begun"}[i.state]
		}
		if !i.ended.IsZero() {
			img.Seconds = r.since(i.ended)
		}
		cached := map[string]bool{} // by name: of a step that BuildKit has merged with another's, it tells twice
		for _, s := range i.steps {
			if s.Kind != Base && strings.HasPrefix(s.Name, "[") && !internal(s.Name) { // an instruction that could be cached
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
		out.Spans = append(out.Spans, ReportSpan{Image: s.Image, Kind: s.Kind, Name: Clean(s.Name), Start: max(0, r.since(s.start)), Seconds: max(0, end.Sub(s.start).Seconds()),
			Bytes: s.sent.Load(), Cached: s.cached, Critical: critical[s], Error: Clean(strings.ReplaceAll(s.failed, "\n", " "))})
	}
	slices.SortStableFunc(out.Spans, func(a, b ReportSpan) int { return cmp.Compare(a.Start, b.Start) })
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
			if next == nil || s.end.Sub(next.end) > slack || next.end.Sub(s.end) <= slack && last != nil && s.Image == last.Image && next.Image != last.Image {
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

// WriteJSON writes the report for machines.
func (r Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// changed says in a few words what an image cost.
func (r Report) changed(i ReportImage) string {
	switch {
	case i.Status == Reused:
		return "not built: unchanged"
	case i.Status == Done && r.Status != "done":
		if i.Image == "" {
			return "built; no tag of it is known to have moved"
		}
		return "built, and its tag has moved"
	case i.Status == Done:
		text := fmt.Sprintf("%d of %d steps cached", i.Cached, i.Steps)
		if i.Size > 0 {
			text += fmt.Sprintf(", %s of %s sent", Bytes(i.Sent), Bytes(i.Size))
		}
		return text
	}
	return i.Text
}

// maxGantt bounds the bars of the summary's timeline: the longest are shown.
const maxGantt = 60

// Markdown writes the summary of a job of GitHub Actions: a table of images,
// and a timeline.
// https://docs.github.com/actions/reference/workflow-commands-for-github-actions#adding-a-job-summary
func (r Report) Markdown(w io.Writer) error {
	var b strings.Builder
	mark := map[string]string{Done: "✅", Reused: "♻️", Failed: "❌"}
	fmt.Fprintf(&b, "### ecsbuild: %s in %s, %s sent\n\n", r.Status, seconds(duration(r.Seconds)), Bytes(r.Sent))
	if r.Error != "" {
		fmt.Fprintf(&b, "**why** %s\n\n", cell(r.Error))
	}
	b.WriteString("| | image | digest | size | what changed | time |\n|---|---|---|--:|---|--:|\n")
	for _, i := range r.Images {
		size := ""
		if i.Size > 0 {
			size = Bytes(i.Size)
		}
		digest := ""
		if i.Digest != "" {
			digest = "`" + i.Digest[:min(len(i.Digest), 19)] + "…`"
		}
		name := "**" + cell(i.Name) + "**"
		if i.Image != "" {
			name += "<br>`" + i.Image + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", cmp.Or(mark[i.Status], "·"), name, digest, size, cell(r.changed(i)), seconds(duration(i.Seconds)))
	}
	r.gantt(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// gantt draws the longest spans as a chart that GitHub renders.
// https://mermaid.js.org/syntax/gantt.html
func (r Report) gantt(b *strings.Builder) {
	spans := slices.DeleteFunc(slices.Clone(r.Spans), func(s ReportSpan) bool { return s.Cached || s.Seconds < 0.05 || internal(s.Name) })
	slices.SortStableFunc(spans, func(a, b ReportSpan) int { return cmp.Compare(b.Seconds, a.Seconds) })
	spans = spans[:min(len(spans), maxGantt)]
	slices.SortStableFunc(spans, func(a, b ReportSpan) int {
		return cmp.Or(strings.Compare(a.Image, b.Image), cmp.Compare(a.Start, b.Start))
	})
	if len(spans) == 0 {
		return
	}
	b.WriteString("\n<details><summary>Timeline</summary>\n\n```mermaid\ngantt\n  dateFormat x\n  axisFormat %M:%S\n")
	section := "\x00"
	for _, s := range spans {
		if s.Image != section {
			section = s.Image
			fmt.Fprintf(b, "  section %s\n", cmp.Or(ganttText(section), "run"))
		}
		tag := ""
		switch {
		case s.Error != "":
			tag = "crit, "
		case s.Critical:
			tag = "active, "
		}
		fmt.Fprintf(b, "  · %s :%s%d, %d\n", ganttText(s.label()), tag, int64(s.Start*1000), int64((s.Start+s.Seconds)*1000))
	}
	b.WriteString("```\n\n</details>\n")
}

func duration(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// cell keeps a text inside one cell of a table, and from meaning anything in
// Markdown: punctuation is written as entities, which mean themselves.
func cell(s string) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(Clean(strings.ReplaceAll(s, "\n", " "))), " ") {
		if r < 0x80 && (unicode.IsPunct(r) || unicode.IsSymbol(r)) && !strings.ContainsRune(".,()-/", r) {
			fmt.Fprintf(&b, "&#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// ganttText takes out what the chart's language gives a meaning to.
func ganttText(s string) string {
	s = strings.NewReplacer(":", "∶", ";", ",", "#", "＃", "\n", " ", "%", "％").Replace(s)
	return cut(s, 60)
}

// label names a span for people.
func (s ReportSpan) label() string {
	switch s.Kind {
	case Upload:
		name := "layer"
		if _, hex, ok := strings.Cut(s.Name, ":"); ok {
			name += " " + hex[:min(len(hex), 12)]
		}
		return "upload " + name + ", " + Bytes(s.Bytes)
	}
	return s.Name
}
