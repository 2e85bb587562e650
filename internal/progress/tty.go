package progress

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// tty draws a block an image at the foot of a terminal; notes go up into its
// history.
type tty struct {
	w      io.Writer
	size   func() (width, height int)
	colors bool

	drawn []int // width of each line on the screen, in characters
}

// frame is how often the terminal is drawn at most.
const frame = 100 * time.Millisecond

func newTTY(out Output) (*tty, error) {
	f, ok := out.W.(*os.File)
	if !ok || !out.Terminal {
		return nil, errors.New("the output is not one")
	}
	return &tty{w: out.W, colors: out.Colors, size: func() (int, int) {
		w, h, err := term.GetSize(int(f.Fd()))
		if err != nil || w <= 0 || h <= 0 {
			return 80, 24
		}
		return w, h
	}}, nil
}

func (t *tty) draw(r *Run, e event) {
	var above strings.Builder
	for _, text := range warnings(r, e) {
		above.WriteString(t.color(yellow, format.Clean(text)) + "\n")
	}
	if e.note != "" && e.state == "" && above.Len() == 0 {
		text := e.note
		if e.image != "" {
			text = e.image + ": " + text
		}
		above.WriteString(format.Clean(text) + "\n")
	}
	if above.Len() > 0 {
		t.show(r, above.String(), time.Now())
	}
}

func (t *tty) tick(r *Run, now time.Time) { t.show(r, "", now) }

func (t *tty) close(r *Run) {
	t.show(r, "", r.ended)
	t.drawn = nil
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
)

func (t *tty) color(code, text string) string {
	if !t.colors || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// show redraws everything: what is above goes into the history.
func (t *tty) show(r *Run, above string, now time.Time) {
	width, height := t.size()
	var b strings.Builder
	b.WriteString(t.erase(width))
	b.WriteString(strings.ReplaceAll(above, "\n", "\r\n"))
	t.drawn = t.drawn[:0]
	for _, l := range t.lines(r, now, width, height) {
		text, n := l.fit(max(0, width-1), t)
		t.drawn = append(t.drawn, n)
		b.WriteString(text + "\r\n")
	}
	_, _ = io.WriteString(t.w, b.String())
}

// erase goes up to where the last picture began. Where the terminal has become
// narrower since, its lines take several rows.
func (t *tty) erase(width int) string {
	rows := 0
	for _, n := range t.drawn {
		rows += max(1, (n+width-1)/width)
	}
	if rows == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", rows)
}

// A line has a left part that is cut where it is too long, and a right one
// that is not.
type line struct {
	left, right string
	code        string // of the mark that the left part begins with
	faint       bool
}

func (l line) fit(width int, t *tty) (text string, n int) {
	l.left = strings.ReplaceAll(l.left, "\t", " ") // whose width depends on where it stands
	if format.Width(l.right)*2 > width {
		l.right = ""
	}
	right := format.Width(l.right)
	room := width
	if l.right != "" {
		room = width - right - 1
	}
	left := format.Truncate(l.left, max(0, room))
	n = format.Width(left)
	pad := ""
	if l.right != "" {
		pad = strings.Repeat(" ", max(1, width-n-right))
		n = width
	}
	switch {
	case l.faint:
		left = t.color(dim, left)
	case l.code != "":
		mark, rest, _ := strings.Cut(left, " ")
		left = t.color(l.code, mark) + " " + rest
	}
	return left + pad + t.color(dim, l.right), n
}

// lines are the picture: what matters most where there is no room for all.
func (t *tty) lines(r *Run, now time.Time, width, height int) (out []line) {
	foot := line{left: t.foot(r), right: format.Duration(now.Sub(r.began))}
	if height < 4 {
		return []line{foot}[:min(1, height-1)] // no room for more, or for anything
	}
	room := max(1, height-3) // the last line, and one that the cursor is on
	shown := slices.Clone(r.images)
	if len(shown) > room {
		slices.SortStableFunc(shown, func(a, b *image) int { return rank(a) - rank(b) })
		shown = shown[:max(0, room-1)]
		keep := map[*image]bool{}
		for _, i := range shown {
			keep[i] = true
		}
		shown = slices.DeleteFunc(slices.Clone(r.images), func(i *image) bool { return !keep[i] })
	}
	names := 0
	for _, i := range shown {
		names = max(names, format.Width(i.name))
	}
	names = min(names, max(6, width/4))
	outputs := len(shown)*2 <= room && len(shown) == len(r.images)
	for _, i := range shown {
		out = append(out, t.block(r, i, names, now))
		if text := i.output; outputs && text != "" && i.state == report.Building {
			out = append(out, line{left: "  " + strings.Repeat(" ", names) + "  │ " + text, faint: true})
		}
	}
	if left := len(r.images) - len(shown); left > 0 {
		out = append(out, line{left: fmt.Sprintf("  … and %d more", left), faint: true})
	}
	return append(out, foot)
}

// rank puts what failed first, then what works, what waits, what is done.
func rank(i *image) int {
	return slices.Index([]report.State{report.Failed, report.Building, report.Waiting, report.Stopped, report.Done,
		report.Reused}, i.state)
}

func (t *tty) block(r *Run, i *image, names int, now time.Time) line {
	name := format.Truncate(i.name, names)
	name += strings.Repeat(" ", names-format.Width(name))
	l := line{right: format.Duration(now.Sub(r.began))}
	if !i.ended.IsZero() {
		l.right = format.Duration(i.ended.Sub(r.began))
	}
	mark, text := "·", i.text
	switch i.state {
	case report.Waiting:
		text, l.right = "waiting", ""
	case report.Building:
		mark, text = "▸", activity(r, i, now)
	case report.Done, report.Reused:
		mark, l.code = "✓", green
	case report.Failed:
		mark, l.code = "✗", red
	case report.Stopped:
		text = "stopped"
	}
	l.left = mark + " " + name + "  " + format.Clean(text)
	return l
}

// activity is what an image does at the moment: its step, and what travels.
func activity(r *Run, i *image, now time.Time) string {
	var parts []string
	for _, s := range i.running() {
		switch s.Kind {
		case report.Base:
			text := s.Name
			if got, total := r.pulled(s); total > 0 && got < total {
				text = fmt.Sprintf("pulling %s of %s: %s", format.Bytes(got), format.Bytes(total), text)
			}
			parts = append(parts, text)
		case report.Step:
			if s.step != InternalStep {
				parts = append(parts, s.Name)
			}
		}
	}
	if len(parts) > 1 {
		parts = []string{fmt.Sprintf("%s (and %d more)", parts[0], len(parts)-1)}
	}
	if sent, size, since := i.uploading(); !since.IsZero() {
		text := "↑ " + format.Bytes(sent)
		if size > 0 {
			text += " of " + format.Bytes(size)
		}
		if passed := now.Sub(since).Seconds(); passed >= 0.5 {
			text += fmt.Sprintf(" %s/s", format.Bytes(int64(float64(sent)/passed)))
		}
		parts = append([]string{text}, parts...)
	}
	if len(parts) == 0 {
		for _, s := range i.running() {
			return s.Name
		}
		return "…"
	}
	return strings.Join(parts, " · ")
}

// foot counts the images and the bytes.
func (t *tty) foot(r *Run) string {
	counts := map[report.State]int{}
	for _, i := range r.images {
		counts[i.state]++
	}
	parts := []string{fmt.Sprintf("%d images", len(r.images))}
	if len(r.images) == 1 {
		parts[0] = "1 image"
	}
	for _, s := range []report.State{report.Failed, report.Building, report.Done, report.Reused} {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	parts = append(parts, format.Bytes(r.sent())+" sent")
	for _, s := range r.image("").running() {
		if s.Kind == report.Gate {
			parts = append(parts, format.Clean(s.Name))
		}
	}
	return strings.Join(parts, " · ")
}
