package progress

import (
	"strings"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/report"
)

// sample is the report of a run of two images and of one that was reused.
func sample(failed bool) report.Report {
	began := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	r := newRun([]string{"app", "nginx", "worker"}, nil, began)
	at := func(s float64) time.Time { return began.Add(report.Seconds(s)) }
	span := func(image string, kind report.Kind, name string, from, to float64, bytes int64) {
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
		img.state, img.text, img.ended = report.Done, "built, layers uploaded to laravel-"+
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

// TestReport writes what package report's own tests read.
func TestReport(t *testing.T) {
	for name, failed := range map[string]bool{"done": false, "failed": true} {
		golden(t, "../report/testdata/"+name+".json",
			write(t, func(b *strings.Builder) error { return sample(failed).WriteJSON(b) }))
	}
}

func TestSummary(t *testing.T) {
	sample(false) // must not depend on a display that draws
	r := newRun([]string{"app"}, nil, time.Unix(0, 0))
	r.ended = time.Unix(75, 0)
	r.spans = []*Span{{Kind: report.Prepare, start: r.began, end: time.Unix(1, 0)},
		{Kind: report.Step, start: time.Unix(1, 0), end: time.Unix(61, 0)}, {Kind: report.Tags, start: time.Unix(74, 0),
			end: r.ended}}
	if got, want := (&Display{run: r}).Summary(), "pushed 1 of 1 images, 0 B sent in 1m15s: prepare 1.0 s, build 1m00s, push 13.0 s, tags 1.0 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
