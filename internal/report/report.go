// Package report is the report of a run: for people as HTML and Markdown, for machines as JSON.
package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ecsbuild/ecsbuild/internal/format"
)

// A Report is a whole run: what --report writes. Times are seconds, from the
// beginning of the run where they say when.
type Report struct {
	Version int `json:"version"` // 1
	// Who wrote it: "ecsbuild", by which a later run knows that it may replace it.
	Generator string `json:"generator"`

	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Status  string    `json:"status"` // "done" or "failed"
	Error   string    `json:"error,omitempty"`
	Sent    int64     `json:"sent"` // bytes of layers and configs
	Phases  []Phase   `json:"phases"`
	Images  []Image   `json:"images"`
	Spans   []Span    `json:"spans"`
	Advice  []string  `json:"advice,omitempty"` // what would make the next build faster, most first
}

// A Phase is a part of the run's time: prepare, build, push, gates, tags or cache.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// An Image is what became of an image.
type Image struct {
	Name    string  `json:"name"`
	Status  State   `json:"status"`
	Text    string  `json:"text,omitempty"`
	Image   string  `json:"image,omitempty"`  // REPOSITORY:TAG
	Digest  string  `json:"digest,omitempty"` // that the tag points at
	Size    int64   `json:"size,omitempty"`   // bytes of its layers in the registry
	Sent    int64   `json:"sent"`             // of which this run sent, with all that shares its repository
	Seconds float64 `json:"seconds"`          // when it was through
	Steps   int     `json:"steps"`
	Cached  int     `json:"cached"`
}

// A Span is something that took time.
type Span struct {
	Image    string  `json:"image,omitempty"` // absent for the run as a whole
	Kind     Kind    `json:"kind"`
	Name     string  `json:"name"`
	Start    float64 `json:"start"`
	Seconds  float64 `json:"seconds"`
	Bytes    int64   `json:"bytes,omitempty"`
	Cached   bool    `json:"cached,omitempty"`
	Critical bool    `json:"critical,omitempty"` // the run waited for it
	Error    string  `json:"error,omitempty"`
	Internal bool    `json:"-"` // BuildKit's housekeeping, which people need not see
}

// A Result is what the registry has of an image.
type Result struct {
	Image  string // REPOSITORY:TAG
	Digest string
	Size   int64 // bytes of its layers
}

// WriteJSON writes the report for machines.
func (r Report) WriteJSON(w io.Writer) error {
	return format.JSON(w, r, "  ")
}

// changed says in a few words what an image cost.
func (r Report) changed(i Image) string {
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
			text += fmt.Sprintf(", %s of %s sent", format.Bytes(i.Sent), format.Bytes(i.Size))
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
	mark := map[State]string{Done: "✅", Reused: "♻️", Failed: "❌"}
	fmt.Fprintf(&b, "### ecsbuild: %s in %s, %s sent\n\n", r.Status, format.Duration(Seconds(r.Seconds)),
		format.Bytes(r.Sent))
	if r.Error != "" {
		fmt.Fprintf(&b, "**why** %s\n\n", cell(r.Error))
	}
	b.WriteString("| | image | digest | size | what changed | time |\n|---|---|---|--:|---|--:|\n")
	for _, i := range r.Images {
		size := ""
		if i.Size > 0 {
			size = format.Bytes(i.Size)
		}
		digest := ""
		if i.Digest != "" {
			digest = "`" + i.Digest[:min(len(i.Digest), 19)] + "…`"
		}
		name := "**" + cell(i.Name) + "**"
		if i.Image != "" {
			name += "<br>`" + i.Image + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", cmp.Or(mark[i.Status], "·"), name, digest, size,
			cell(r.changed(i)), format.Duration(Seconds(i.Seconds)))
	}
	for _, a := range r.Advice {
		fmt.Fprintf(&b, "\n- 💡 %s", cell(a))
	}
	if len(r.Advice) > 0 {
		b.WriteString("\n")
	}
	r.gantt(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// gantt draws the longest spans as a chart that GitHub renders.
// https://mermaid.js.org/syntax/gantt.html
func (r Report) gantt(b *strings.Builder) {
	spans := slices.DeleteFunc(slices.Clone(r.Spans),
		func(s Span) bool { return s.Cached || s.Seconds < 0.05 || s.Internal })
	slices.SortStableFunc(spans, func(a, b Span) int { return cmp.Compare(b.Seconds, a.Seconds) })
	spans = spans[:min(len(spans), maxGantt)]
	slices.SortStableFunc(spans, func(a, b Span) int {
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

func Seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// cell keeps a text inside one cell of a table, and from meaning anything in
// Markdown: punctuation is written as entities, which mean themselves.
func cell(s string) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(format.Clean(strings.ReplaceAll(s, "\n", " "))), " ") {
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
	return format.Truncate(s, 60)
}

// label names a span for people.
func (s Span) label() string {
	switch s.Kind {
	case Upload:
		name := "layer"
		if _, hex, ok := strings.Cut(s.Name, ":"); ok {
			name += " " + hex[:min(len(hex), 12)]
		}
		return "upload " + name + ", " + format.Bytes(s.Bytes)
	}
	return s.Name
}
