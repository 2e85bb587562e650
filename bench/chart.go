package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// style reads well on a light page and on a dark one: the text takes the
// viewer's preference, and the bars stand out on both.
const style = `<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.t { font-size: 15px; font-weight: 600 } .v { font-size: 11px } .a { stroke: #8c959f }
.shell { fill: #8c959f } .bake { fill: #bf8700 } .ecsbuild { fill: #2da44e } .bare { fill: #54aeff }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
</style>
`

// chart draws a bar a way, grouped by case, below one another for each engine.
func (r *results) chart() string {
	const left, width, bar, gap = 260, 430, 15, 14
	longest := 1.0
	for _, s := range r.Samples {
		if s.Case != "hundred" {
			longest = max(longest, s.Seconds)
		}
	}
	var b strings.Builder
	y := 30
	text := func(class string, x, y int, s string) {
		fmt.Fprintf(&b, "<text class=\"%s\" x=\"%d\" y=\"%d\">%s</text>\n", class, x, y, s)
	}
	text("t", 10, 20, "Seconds from sources to ECR (bare: built only, not pushed)")
	for i, w := range ways {
		fmt.Fprintf(&b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"12\" height=\"12\"/>\n", w.name, left+i*100, y+2)
		text("", left+i*100+17, y+12, w.name)
	}
	y += 30
	for _, engine := range r.engines() {
		y += 20
		text("t", 10, y, cmp.Or(engineTitles[engine], engine))
		y += 10
		for _, name := range allCases {
			if name == "hundred" || len(r.of(engine, name, "ecsbuild")) == 0 {
				continue
			}
			top := y
			text("", 10, y+12, titles[name])
			for _, w := range ways {
				if a, ok := asks[name]; ok && !slices.Contains(a.ways, w.name) {
					continue // as in the case beside it
				}
				all := r.of(engine, name, w.name)
				if s, ok := median(all); ok {
					n := int(s.Seconds / longest * width)
					fmt.Fprintf(&b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", w.name, left, y+1,
						max(1, n), bar-2)
					text("v", left+n+5, y+11, fmt.Sprintf("%.1f", s.Seconds))
				} else {
					text("v", left+5, y+11, w.name+map[bool]string{true: " fails", false: ": not measured"}[s.Failed != ""])
				}
				y += bar
			}
			fmt.Fprintf(&b, "<line class=\"a\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", left, top-2, left, y+2)
			y += gap
		}
	}
	size := fmt.Sprintf(`width="%d" height="%d"`, left+width+60, y+10)
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" %s viewBox=\"0 0 %d %d\">\n%s%s</svg>\n", size,
		left+width+60, y+10, style, b.String())
}
