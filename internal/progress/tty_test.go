package progress

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/vt100"

	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// screen is a terminal that a tty draws on.
type screen struct {
	*tty
	vt            *vt100.VT100
	width, height int
	run           *Run
	now           time.Time
}

func newScreen(width, height int, images ...string) *screen {
	s := &screen{width: width, height: height, vt: vt100.NewVT100(height, width), now: time.Unix(1700000000, 0)}
	s.tty = &tty{w: s.vt, size: func() (int, int) { return s.width, s.height }}
	s.run = newRun(images, nil, s.now)
	return s
}

// at lets time pass and brings an event.
func (s *screen) at(after time.Duration, e event) {
	s.now = s.now.Add(after)
	e.at = s.now
	s.run.take(e)
	s.draw(s.run, e)
	s.tick(s.run, s.now)
}

func (s *screen) String() string {
	var lines []string
	for _, row := range s.vt.Content {
		lines = append(lines, strings.TrimRight(string(row), " \x00"))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

// stepKind is that of a step in these tests.
func stepKind(name string) StepKind {
	switch {
	case strings.HasPrefix(name, "[internal]"):
		return InternalStep
	case strings.Contains(name, "] FROM "):
		return BaseStep
	case strings.HasPrefix(name, "["):
		return Instruction
	}
	return OtherStep
}

func (s *screen) step(image, name, output string, done bool) event {
	start := s.now
	v := BuildStep{ID: digest.FromString(image + name), Name: name, Kind: stepKind(name), Started: &start}
	if done {
		v.Completed = &start
	}
	st := &BuildStatus{Steps: []BuildStep{v}}
	if output != "" {
		st.Output = []StepOutput{{Step: v.ID, Data: []byte(output)}}
	}
	return event{image: image, status: st}
}

// TestTTY draws one run on terminals of several widths; the golden files have
// what a person sees.
func TestTTY(t *testing.T) {
	for _, width := range []int{40, 80, 120} {
		s := newScreen(width, 16, "app", "nginx", "worker")
		var out strings.Builder
		show := func(title string) { fmt.Fprintf(&out, "=== %s\n%s", title, s) }
		s.at(0, event{note: "building with Docker engine 28.5.2 (classic store)"})
		s.at(100*time.Millisecond, event{image: "worker", state: report.Reused,
			note: "not built: what it is made of has not changed since 2026-11-22 10:00 UTC"})
		s.at(100*time.Millisecond, s.step("app", "[1/4] FROM docker.io/library/php:8.4-fpm@sha256:0123456789abcdef", "",
			false))
		s.at(0, event{image: "app", status: &BuildStatus{Transfers: []Transfer{
			{Step: digest.FromString("app[1/4] FROM docker.io/library/php:8.4-fpm@sha256:0123456789abcdef"), ID: "a",
				Current: 40e6, Total: 120e6}}}})
		s.at(0, s.step("nginx", "[2/2] COPY public /usr/share/nginx/html", "", false))
		show("the base is pulled")
		s.at(2*time.Second, s.step("app", "[1/4] FROM docker.io/library/php:8.4-fpm@sha256:0123456789abcdef", "", true))
		s.at(0, s.step("app", "[2/4] RUN composer install --no-dev --optimize-autoloader",
			"  - Installing symfony/polyfill-mbstring (v1.31.0): Extracting archive\n", false))
		up := &Span{Image: "nginx", Kind: report.Upload, Name: "sha256:1", size: 18e6, start: s.now}
		s.at(0, event{image: "nginx", began: up})
		up.Add(6e6)
		s.at(time.Second, event{warns: true, note: "the engine has only 1.2 GB of disk left"})
		show("a layer is on its way")
		s.at(time.Second, event{image: "nginx", ended: up})
		s.at(0, event{image: "nginx", state: report.Done, note: "built, layers uploaded to laravel-nginx"})
		s.at(3*time.Second, event{image: "app", state: report.Failed,
			note: "[2/4] RUN composer install --no-dev --optimize-autoloader"})
		show("one has failed")
		s.run.ended = s.now
		s.close(s.run)
		golden(t, fmt.Sprintf("testdata/tty-%d.txt", width), out.String())
	}
}

// TestTTYResize makes a terminal narrower between two frames: nothing of the
// last picture stays.
func TestTTYResize(t *testing.T) {
	s := newScreen(100, 12, "app", "nginx")
	s.at(0, s.step("app", "[2/4] RUN "+strings.Repeat("x", 90), "", false))
	// A terminal that becomes narrower wraps what it shows.
	shown := strings.ReplaceAll(s.String(), "\n", "\r\n")
	s.vt, s.width = vt100.NewVT100(12, 50), 50
	s.w = s.vt
	_, _ = s.vt.Write([]byte(shown))
	s.at(time.Second, event{image: "nginx", state: report.Done, note: "built"})
	if got := strings.Count(s.String(), "app"); got != 1 {
		t.Errorf("the image is on the screen %d times:\n%s", got, s)
	}
}

// TestTTYHundred has more images than rows: those that work are seen.
func TestTTYHundred(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("image-%03d", i))
	}
	s := newScreen(60, 10, names...)
	for i := range 70 {
		s.at(0, event{image: names[i], state: report.Done, note: "built, layers uploaded to shop"})
	}
	s.at(time.Second, s.step(names[90], "[1/1] COPY . /", "", false))
	s.at(0, event{image: names[99], state: report.Failed, note: "[1/1] RUN false"})
	golden(t, "testdata/tty-hundred.txt", s.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestHeartbeat breaks a silence of half a minute, and no shorter one.
func TestHeartbeat(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	p, r := newPlain(&out, []string{"app"}), newRun([]string{"app"}, nil, now)
	start := now
	r.take(event{image: "app", status: &BuildStatus{Steps: []BuildStep{{ID: "sha256:1", Name: "[2/4] RUN make",
		Kind: Instruction, Started: &start}}}})
	p.tick(r, now.Add(29*time.Second))
	if out.Len() > 0 {
		t.Errorf("too early: %s", out.String())
	}
	p.tick(r, now.Add(31*time.Second))
	p.tick(r, now.Add(40*time.Second))
	if want := "app      | still running after 31.0 s: [2/4] RUN make\n"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

// TestHeartbeatOfTheRun: what belongs to no image counts as well, and nothing at all.
func TestHeartbeatOfTheRun(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	p, r := newPlain(&out, []string{"app"}), newRun([]string{"app"}, nil, now)
	tags := &Span{Kind: report.Tags, Name: "tags", start: now}
	r.take(event{began: tags})
	p.tick(r, now.Add(31*time.Second))
	r.take(event{ended: tags})
	p.tick(r, now.Add(62*time.Second))
	if want := "ecsbuild | still running after 31.0 s: tags\necsbuild | still running after 1m02s\n"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

// TestTinyTerminal draws where there is no room: no line is wider than the
// terminal, and no more of them than it has.
func TestTinyTerminal(t *testing.T) {
	for width := 1; width <= 12; width++ {
		for height := 1; height <= 5; height++ {
			s := newScreen(width, height, "app", "nginx")
			var out bytes.Buffer
			s.tty.w = &out
			s.at(time.Minute, s.step("app", "[2/4] RUN make\tall ✅", "a\tb\n", false))
			lines := strings.Split(strings.TrimSuffix(out.String(), "\r\n"), "\r\n")
			if i := strings.LastIndex(out.String(), "\x1b[J"); i >= 0 {
				lines = strings.Split(strings.TrimSuffix(out.String()[i+3:], "\r\n"), "\r\n")
			}
			if len(lines) > height {
				t.Errorf("%d×%d: %d lines", width, height, len(lines))
			}
			for _, l := range lines {
				if format.Width(l) > width-1 && l != "" || strings.Contains(l, "\t") {
					t.Errorf("%d×%d: %q", width, height, l)
				}
			}
		}
	}
}

// TestTerminalWarnings: a warning is yellow, wherever it comes from.
func TestTerminalWarnings(t *testing.T) {
	s := newScreen(80, 10, "app")
	var out bytes.Buffer
	s.tty.w, s.tty.colors = &out, true
	s.at(0, event{warns: true, note: "one"})
	s.at(0, event{image: "app", status: &BuildStatus{Warnings: []BuildWarning{{Text: "two\x1b[2J"}}}})
	for _, want := range []string{"\x1b[33mwarning: one\x1b[0m", "\x1b[33mapp: warning: two\x1b[0m"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
}

// TestSharedStep: a step that images share is written once, counts for both,
// and is in the log of whichever is blamed for it.
func TestSharedStep(t *testing.T) {
	play := func(mode Mode) (string, report.Report) {
		d, out := display(t, mode, "app", "nginx")
		now := time.Unix(1700000000, 0)
		end := now.Add(time.Second)
		v := func(done bool) []BuildStep {
			v := BuildStep{ID: "sha256:1", Name: "[1/2] RUN make", Kind: Instruction, Started: &now}
			if done {
				v.Completed, v.Error = &end, "exit code: 1"
			}
			return []BuildStep{v}
		}
		for _, image := range []string{"app", "nginx"} {
			d.Status(image, &BuildStatus{Steps: v(false), Output: []StepOutput{{Step: "sha256:1", Data: []byte("one\nlast")}}})
		}
		d.Status("nginx", &BuildStatus{Steps: v(true)})
		d.Image("nginx", report.Failed, "[1/2] RUN make")
		d.Image("app", report.Stopped, "")
		d.Close()
		return out.String(), d.Report(nil, "it failed")
	}
	plain, report := play(Plain)
	golden(t, "testdata/plain-shared.txt", plain)
	if report.Images[0].Steps != 1 || report.Images[1].Steps != 1 || len(report.Spans) != 1 {
		t.Errorf("%d and %d steps, %d spans", report.Images[0].Steps, report.Images[1].Steps, len(report.Spans))
	}
	shared, _ := play(GitHub)
	golden(t, "testdata/github-shared.txt", shared)
}

// TestWholeLog: the log of an image that failed comes once more, in one piece.
func TestWholeLog(t *testing.T) {
	play := func(mode Mode) string {
		d, out := display(t, mode, "app", "nginx")
		now := time.Unix(1700000000, 0)
		end := now.Add(time.Second)
		for i, image := range []string{"app", "nginx"} {
			v := BuildStep{ID: digest.FromString(image), Name: fmt.Sprintf("[%d/2] RUN make %s", i+1, image), Kind: Instruction,
				Started: &now}
			d.Status(image, &BuildStatus{Steps: []BuildStep{v},
				Output: []StepOutput{{Step: v.ID, Data: []byte("::error::of " + image + "\n")}}})
		}
		d.Note("app", Warning, "100% of a,b: c")
		d.Status("app", &BuildStatus{Steps: []BuildStep{{ID: digest.FromString("app"), Name: "[1/2] RUN make app",
			Kind: Instruction, Started: &now, Completed: &end, Error: "exit code: 1"}}})
		d.Image("app", report.Failed, "[1/2] RUN make app")
		d.Image("nginx", report.Stopped, "")
		d.Close()
		return out.String()
	}
	golden(t, "testdata/plain-failed.txt", play(Plain))
	golden(t, "testdata/github-failed.txt", play(GitHub))
}

// display shows images in a mode, into a buffer.
func display(t *testing.T, mode Mode, images ...string) (*Display, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	d, err := New(mode, Output{W: &out}, images)
	if err != nil {
		t.Fatal(err)
	}
	return d, &out
}
