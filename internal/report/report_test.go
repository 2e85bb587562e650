package report

import (
	"math"
	"regexp"
	"strconv"
	"testing"
)

// TestCell: no text of a build means anything in Markdown.
func TestCell(t *testing.T) {
	for text, want := range map[string]string{
		"RUN make -j 2, done (ok)":   "RUN make -j 2, done (ok)",
		"a|b <i> `c` *d* _e_ ~f~ $g": "a&#124;b &#60;i&#62; &#96;c&#96; &#42;d&#42; &#95;e&#95; &#126;f&#126; &#36;g",
		"![i](http://x) @me #1":      "&#33;&#91;i&#93;(http&#58;//x) &#64;me &#35;1",
		"a\n\n# b\r\r# c\x1b[2J":     "&#35; c",
	} {
		if got := cell(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// TestContrast holds the page's colours to WCAG: 4.5 for text, 3 for bars on
// their track, in light and in dark.
// https://www.w3.org/TR/WCAG22/#contrast-minimum
func TestContrast(t *testing.T) {
	themes := regexp.MustCompile(`:root \{([^}]*)\}`).FindAllStringSubmatch(reportStyle, -1)
	if len(themes) != 2 {
		t.Fatalf("%d themes", len(themes))
	}
	for i, theme := range themes {
		colors := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z]+): #([0-9a-f]{6})`).FindAllStringSubmatch(theme[1], -1) {
			colors[m[1]] = luminance(t, m[2])
		}
		if len(colors) != 13 {
			t.Errorf("theme %d has %d colours", i, len(colors))
		}
		ratio := func(a, b string) float64 {
			x, y := colors[a]+0.05, colors[b]+0.05
			return max(x, y) / min(x, y)
		}
		for _, name := range []string{"text", "soft", "step", "bad"} {
			if r := ratio(name, "page"); r < 4.5 {
				t.Errorf("theme %d: text %s has a contrast of %.2f", i, name, r)
			}
		}
		for _, name := range []string{"base", "step", "push", "upload", "prepare", "tags", "bad", "edge"} {
			if r := ratio(name, "track"); r < 3 {
				t.Errorf("theme %d: bar %s has a contrast of %.2f", i, name, r)
			}
		}
	}
}

func luminance(t *testing.T, hex string) (l float64) {
	t.Helper()
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(v) / 255
		if c <= 0.04045 {
			l += weight * c / 12.92
		} else {
			l += weight * math.Pow((c+0.055)/1.055, 2.4)
		}
	}
	return l
}
