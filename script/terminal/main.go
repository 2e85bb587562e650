// Terminal turns what script(1) recorded of a terminal into an SVG that plays
// it: terminal -cols 80 -rows 20 -log OUT -timing TIMING > picture.svg
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"html"
	"log"
	"os"
	"strings"

	"github.com/tonistiigi/vt100"
)

// A frame is a screen, and the seconds at which it was seen first.
type frame struct {
	at   float64
	rows []row
}

// A row that is not empty, as SVG.
type row struct {
	y    int
	text string
}

const (
	apart      = 0.2  // seconds between frames, at least
	whole      = 0.03 // seconds of silence after which a picture is complete
	hold       = 4.0  // seconds that the last one stays
	charWidth  = 8.4
	lineHeight = 19.0
)

func main() {
	cols := flag.Int("cols", 80, "width in characters")
	rows := flag.Int("rows", 20, "height in lines")
	out := flag.String("log", "", "what script --log-out wrote")
	timing := flag.String("timing", "", "what script --log-timing wrote")
	flag.Parse()
	svg, err := play(*cols, *rows, *out, *timing)
	if err != nil {
		log.Fatal("terminal: ", err)
	}
	fmt.Print(svg)
}

func play(cols, rows int, out, timing string) (string, error) {
	data, err := os.ReadFile(out)
	if err != nil {
		return "", err
	}
	if i := bytes.IndexByte(data, '\n'); bytes.HasPrefix(data, []byte("Script started")) {
		data = data[i+1:] // its own first line, which no timing counts
	}
	times, err := os.ReadFile(timing)
	if err != nil {
		return "", err
	}
	screen := vt100.NewVT100(rows, cols)
	var frames []frame
	now, last := 0.0, -1.0
	keep := func() {
		if rows := draw(screen); len(rows) > 0 {
			frames, last = append(frames, frame{now, rows}), now
		}
	}
	sc := bufio.NewScanner(bytes.NewReader(times))
	for sc.Scan() {
		var delay float64
		var n int
		if _, err := fmt.Sscanf(strings.TrimPrefix(sc.Text(), "O "), "%f %d", &delay, &n); err != nil {
			continue // a header, or a signal
		}
		if delay > whole && now-last >= apart {
			keep() // what stood there meanwhile
		}
		now += delay
		n = min(n, len(data))
		_, _ = screen.Write(data[:n])
		data = data[n:]
	}
	keep()
	used := 0
	for _, f := range frames {
		used = max(used, f.rows[len(f.rows)-1].y)
	}
	return render(frames, cols, used+1), nil
}

// draw writes each line that is not empty, with a span for each run of one colour.
func draw(v *vt100.VT100) (out []row) {
	for y, cells := range v.Content {
		end := len(cells)
		for end > 0 && (cells[end-1] == ' ' || cells[end-1] == 0) {
			end--
		}
		var b strings.Builder
		for x := 0; x < end; {
			from := x
			for x < end && v.Format[y][x] == v.Format[y][from] {
				x++
			}
			f := v.Format[y][from]
			class := ""
			switch {
			case f.Fg == vt100.Green:
				class = "g"
			case f.Fg == vt100.Red:
				class = "r"
			case f.Fg == vt100.Yellow:
				class = "y"
			case f.Intensity == vt100.Dim:
				class = "d"
			}
			fmt.Fprintf(&b, `<tspan class="%s">%s</tspan>`, class,
				html.EscapeString(strings.ReplaceAll(string(cells[from:x]), "\x00", " ")))
		}
		if b.Len() > 0 {
			out = append(out, row{y, fmt.Sprintf(`<text x="12" y="%.0f">%s</text>`, float64(y+1)*lineHeight+8, b.String())})
		}
	}
	return out
}

func render(frames []frame, cols, rows int) string {
	total := frames[len(frames)-1].at + hold
	width, height := float64(cols)*charWidth+24, float64(rows)*lineHeight+20
	var b, css strings.Builder
	for i, f := range frames {
		from, to := 100*f.at/total, 100.0
		if i == 0 {
			from = 0
		}
		if i+1 < len(frames) {
			to = 100 * frames[i+1].at / total
		}
		shown := "visible"
		fmt.Fprintf(&css, "@keyframes f%d { 0%% { visibility: %s } %.3f%% { visibility: %s } %.3f%% { visibility: %s } }\n",
			i, map[bool]string{true: shown, false: "hidden"}[i == 0], from, shown, to, map[bool]string{true: shown,
				false: "hidden"}[i+1 == len(frames)])
		fmt.Fprintf(&css, "#f%d { animation: f%d %.1fs step-end infinite }\n", i, i, total)
		rest := "hidden"
		if i+1 == len(frames) {
			rest = shown // where nothing moves
		}
		fmt.Fprintf(&b, "<g id=\"f%d\" visibility=\"%s\">\n", i, rest)
		for _, r := range f.rows {
			b.WriteString(r.text + "\n")
		}
		b.WriteString("</g>\n")
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" role=\"img\" aria-label=\"ecsbuild run in a terminal of %d columns\">\n<style>\ntext { font: 14px ui-monospace, Menlo, Consolas, monospace; fill: #e6edf3; white-space: pre }\n.g { fill: #3fb950 } .r { fill: #ff7b72 } .y { fill: #d29922 } .d { fill: #9da7b3 }\n%s@media (prefers-reduced-motion: reduce) { g { animation: none !important } }\n</style>\n<rect width=\"100%%\" height=\"100%%\" rx=\"8\" fill=\"#0d1117\"/>\n%s</svg>\n",
		width, height, width, height, cols, css.String(), b.String())
}
