package progress

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/report"
)

// sample is the account of a run of two images and of one that was reused.
func sample(failed bool) report.Report {
	began := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	r := newRun([]string{"app", "nginx", "worker"}, began)
	at := func(s float64) time.Time { return began.Add(report.Seconds(s)) }
	span := func(image, kind, name string, from, to float64, bytes int64) {
		s := &Span{Image: image, Kind: kind, Name: name, step: stepKind(name), start: at(from), end: at(to)}
		s.sent.Store(bytes)
		r.spans = append(r.spans, s)
		if kind == report.Step {
			r.image(image).steps = append(r.image(image).steps, s)
		}
		if kind == report.Upload {
			r.image(image).sent += bytes
		}
	}
	span("", report.Prepare, "credentials, engine and checks", 0, 0.4, 0)
	span("app", report.Base, "[1/4] FROM docker.io/library/php:8.4-fpm", 0.5, 3.4, 0)
	span("nginx", report.Base, "[1/2] FROM docker.io/library/nginx:1.29", 0.5, 1.6, 0)
	span("nginx", report.Step, "[2/2] COPY public /usr/share/nginx/html", 1.6, 1.9, 0)
	span("nginx", report.Push, "the engine compresses and pushes", 2.0, 2.9, 0)
	span("nginx", report.Upload, "sha256:0123456789abcdef", 2.2, 2.8, 18_400_000)
	span("app", report.Step, "[2/4] RUN composer install --no-dev <script>alert(1)</script>", 3.4, 9.8, 0)
	span("app", report.Step, "[3/4] COPY . /app", 9.8, 10.1, 0)
	span("app", report.Push, "the engine compresses and pushes", 10.3, 12.2, 0)
	span("app", report.Upload, "sha256:fedcba9876543210", 10.6, 12.0, 41_200_000)
	span("", report.Tags, "tags", 12.2, 12.3, 0)
	r.ended = at(12.3)
	for i, name := range []string{"app", "nginx"} {
		img := r.image(name)
		img.state, img.text, img.ended = report.Done, "built, and its layers are in laravel-"+
			name, at([]float64{12.2, 2.9}[i])
	}
	worker := r.image("worker")
	worker.state, worker.text, worker.ended = report.Reused, "not built: what it is made of has not changed since 2026-11-20 09:12 UTC", at(0.5)
	d := &Display{run: r}
	if failed {
		r.image("app").state, r.image("app").text = report.Failed, "[2/4] RUN composer install --no-dev"
		return d.Report(nil, "app: [2/4] RUN composer install --no-dev failed: the command ended with exit code 2")
	}
	results := map[string]report.Result{}
	for _, i := range r.images {
		results[i.name] = report.Result{Image: "123456789012.dkr.ecr.ap-northeast-1.amazonaws.com/laravel-" + i.name +
			":prod", Digest: "sha256:" + strings.Repeat("5b", 32), Size: 182_000_000}
	}
	return d.Report(results, "")
}

func write(t *testing.T, f func(*strings.Builder) error) string {
	t.Helper()
	var b strings.Builder
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReport(t *testing.T) {
	golden(t, "testdata/report.json", write(t, func(b *strings.Builder) error { return sample(false).WriteJSON(b) }))
	golden(t, "testdata/report.html", write(t, func(b *strings.Builder) error { return sample(false).WriteHTML(b) }))
	golden(t, "testdata/failed.html", write(t, func(b *strings.Builder) error { return sample(true).WriteHTML(b) }))
	golden(t, "testdata/summary.md", write(t, func(b *strings.Builder) error { return sample(false).Markdown(b) }))
}

func TestSummary(t *testing.T) {
	sample(false) // must not depend on a display that draws
	r := newRun([]string{"app"}, time.Unix(0, 0))
	r.ended = time.Unix(75, 0)
	r.spans = []*Span{{Kind: report.Prepare, start: r.began, end: time.Unix(1, 0)},
		{Kind: report.Step, start: time.Unix(1, 0), end: time.Unix(61, 0)}, {Kind: report.Tags, start: time.Unix(74, 0),
			end: r.ended}}
	if got, want := (&Display{run: r}).Summary(), "pushed 1 of 1 images, 0 B sent in 1m15s: prepare 1.0 s, build 1m00s, push 13.0 s, tags 1.0 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
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
	for _, failed := range []bool{false, true} {
		page := write(t, func(b *strings.Builder) error { return sample(failed).WriteHTML(b) })
		for _, size := range []string{"1280,900", "500,900"} { // headless Chromium is no narrower
			name := fmt.Sprintf("failed %v, %s", failed, size)
			file := filepath.Join(t.TempDir(), "page.html")
			if err := os.WriteFile(file, []byte(strings.Replace(page, "</body>", probe+"</body>", 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu",
				"--enable-logging=stderr", "--window-size="+size, "--virtual-time-budget=2000", "--dump-dom", "file://"+file)
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: chromium: %v\n%s", name, err, errs.String())
			}
			if m := regexp.MustCompile(`<title>(.*?)</title>`).FindStringSubmatch(string(out)); m == nil || m[1] != "well" {
				t.Errorf("%s: %v", name, m)
			}
			if strings.Contains(errs.String(), "CONSOLE") {
				t.Errorf("%s: the console says:\n%s", name, errs.String())
			}
		}
	}
}
