package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample is the report of two images that were built and one that was reused,
// "done" or "failed"; package progress's tests write it.
func sample(t *testing.T, name string) (r Report) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAdvice is in every form, and cannot be more than text.
func TestAdvice(t *testing.T) {
	r := sample(t, "done")
	r.Advice = []string{"web: RUN <b>npm ci</b> | ran again"}
	for name, write := range map[string]func(Report, io.Writer) error{"<li>web: RUN &lt;b&gt;npm ci": Report.WriteHTML,
		"- 💡 web&#58; RUN": Report.Markdown, `"advice": [`: Report.WriteJSON} {
		var b strings.Builder
		if err := write(r, &b); err != nil || !strings.Contains(b.String(), name) || strings.Contains(b.String(), "<b>npm") &&
			name[0] != '"' {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
	}
}

func TestForms(t *testing.T) {
	for _, c := range []struct {
		name, file string
		write      func(Report, io.Writer) error
	}{
		{"done", "done.json", Report.WriteJSON},
		{"done", "done.html", Report.WriteHTML},
		{"failed", "failed.html", Report.WriteHTML},
		{"done", "done.md", Report.Markdown},
		{"failed", "failed.md", Report.Markdown},
	} {
		var got strings.Builder
		if err := c.write(sample(t, c.name), &got); err != nil {
			t.Fatal(err)
		}
		file := "testdata/" + c.file
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

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

// probe runs in a copy of the page: what a browser has to say about it.
const probe = `<script>
const said = [];
addEventListener("error", e => said.push("error: " + e.message));
addEventListener("load", () => {
  if (document.documentElement.scrollWidth > innerWidth) said.push("wider than the window: " + document.documentElement.scrollWidth + " of " + innerWidth);
  if (performance.getEntriesByType("resource").length) said.push("something was fetched");
  const stops = document.querySelectorAll("summary, [tabindex]");
  if (stops.length < 4) said.push("only " + stops.length + " places for the keyboard");
  for (const d of document.querySelectorAll("details")) { const was = d.open; d.querySelector("summary").click(); if (d.open === was) said.push("does not open"); d.open = true; }
  for (const e of stops) { e.focus(); if (document.activeElement !== e) said.push("cannot be focused: " + e.outerHTML.slice(0, 60)); }
  for (const t of document.querySelectorAll("table")) if (t.querySelectorAll("thead th[scope=col]").length !== t.querySelector("tbody tr").children.length) said.push("a table's heads and cells differ");
  document.title = said.length ? said.join("; ") : "well";
});
</script>`

// TestReportInBrowser opens the pages in Chromium, on a desk and on a phone.
func TestReportInBrowser(t *testing.T) {
	if _, set := os.LookupEnv("ECSBUILD_TEST_ENGINES"); !set {
		t.Skip("needs Chromium: make test")
	}
	if out, err := exec.Command("../../script/engine", "install", "browser").CombinedOutput(); err != nil {
		t.Fatalf("script/engine install browser: %v\n%s", err, out)
	}
	for _, name := range []string{"done", "failed"} {
		var page strings.Builder
		if err := sample(t, name).WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		for _, size := range []string{"1280,900", "500,900"} { // headless Chromium is no narrower
			where := fmt.Sprintf("%s, %s", name, size)
			file := filepath.Join(t.TempDir(), "page.html")
			if err := os.WriteFile(file, []byte(strings.Replace(page.String(), "</body>", probe+"</body>", 1)),
				0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu",
				"--enable-logging=stderr", "--window-size="+size, "--virtual-time-budget=2000", "--dump-dom", "file://"+file)
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: chromium: %v\n%s", where, err, errs.String())
			}
			if m := regexp.MustCompile(`<title>(.*?)</title>`).FindStringSubmatch(string(out)); m == nil || m[1] != "well" {
				t.Errorf("%s: %v", where, m)
			}
			if strings.Contains(errs.String(), "CONSOLE") {
				t.Errorf("%s: the console says:\n%s", where, errs.String())
			}
		}
	}
}
