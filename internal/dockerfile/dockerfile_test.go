package dockerfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

func parse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const twoStages = `ARG VERSION=1
FROM php:8 AS base
ARG MODE
COPY composer.json composer.lock /app/
FROM base AS Production
COPY --from=base /app /app
ADD --chown=1 config.tar /etc/
FROM $VERSION AS variable
`

func TestParse(t *testing.T) {
	f := parse(t, twoStages)
	for name, diff := range map[string]string{
		"stages": cmp.Diff([]string{"base", "production", "variable"}, f.Stages),
		"bases":  cmp.Diff([]string{"php:8"}, f.Bases),
		"args":   cmp.Diff([]string{"VERSION", "MODE"}, f.Args),
		"reads":  cmp.Diff([]string{"composer.json", "composer.lock", "config.tar"}, f.Reads),
	} {
		if diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestBase(t *testing.T) {
	f := parse(t, twoStages)
	for target, want := range map[string]string{
		"base": "docker.io/library/php:8", "production": "docker.io/library/php:8", "PRODUCTION": "docker.io/library/php:8", "1": "docker.io/library/php:8",
		"variable": "", "": "", "nothing": "",
	} {
		if got := FullName(f.Root(target)); got != want {
			t.Errorf("%q: %q", target, got)
		}
	}
	if got := FullName(parse(t, "FROM scratch\n").Root("")); got != "" {
		t.Errorf("scratch is %q", got)
	}
	if got := FullName((*File)(nil).Root("")); got != "" {
		t.Errorf("no Dockerfile has the base %q", got)
	}
}

func TestCheck(t *testing.T) {
	f := parse(t, twoStages)
	img := func(b plan.Build) plan.Image {
		b.Dockerfile = "/src/Dockerfile"
		return plan.Image{Containers: []string{"web"}, Build: b}
	}
	for _, target := range []string{"", "base", "Production", "0", "2"} {
		if w, err := f.Check(img(plan.Build{Target: target})); err != nil || w != nil {
			t.Errorf("%q: %v, %v", target, w, err)
		}
	}
	for target, fix := range map[string]string{"prodution": "did you mean production? its stages are base, production, variable", "3": "its stages are", "-1": "its stages are"} {
		_, err := f.Check(img(plan.Build{Target: target}))
		var e *fault.Error
		if !errors.As(err, &e) || !strings.Contains(e.Fix, fix) {
			t.Errorf("%q: %v", target, err)
		}
	}
	if _, err := parse(t, "FROM a\n").Check(img(plan.Build{Target: "x"})); err == nil ||
		!strings.Contains(err.Error(), "name a stage with FROM … AS x") {
		t.Errorf("%v", err)
	}
	warnings, err := f.Check(img(plan.Build{Args: map[string]string{"MODE": "1", "VERSION": "2", "HTTP_PROXY": "p",
		"BUILDKIT_X": "1", "TYPO": "1", "OTHER": "1"}}))
	if want := []string{"the Dockerfile declares no ARG OTHER, so it has no effect",
		"the Dockerfile declares no ARG TYPO, so it has no effect"}; err != nil || cmp.Diff(want, warnings) != "" {
		t.Errorf("%v, %v", warnings, err)
	}
	custom := parse(t, "# syntax=acme/frontend\nWHATEVER\n")
	if w, err := custom.Check(img(plan.Build{Target: "x", Args: map[string]string{"A": "1"}})); err != nil || w != nil {
		t.Errorf("another syntax is judged: %v, %v", w, err)
	}
	if w, err := (*File)(nil).Check(img(plan.Build{Target: "x"})); err != nil || w != nil {
		t.Errorf("no Dockerfile is judged: %v, %v", w, err)
	}
}

// TestReadAll reads what it can, and names the line of what it cannot.
func TestReadAll(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "FROM scratch\n", "broken": "FROM scratch\nCOPPY a b\nRUN x\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("good", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	var images []plan.Image
	for _, name := range []string{"good", "link", "broken", "missing"} {
		images = append(images, plan.Image{Containers: []string{name},
			Build: plan.Build{Context: dir, Dockerfile: filepath.Join(dir, name)}})
	}
	images = append(images, plan.Image{Containers: []string{"remote"},
		Build: plan.Build{Context: "https://example.com/x.git"}})
	files, errs := ReadAll(images)
	for i, img := range images {
		failed := errs[i] != nil
		if want := img.Name() == "broken" || img.Name() == "missing"; failed != want {
			t.Errorf("%s: %v", img.Name(), errs[i])
		}
	}
	err := errors.Join(errs...)
	if len(files) != 2 || !files["good"].Regular || files["link"].Regular ||
		files["good"].Path != filepath.Join(dir, "good") {
		t.Errorf("%v", files)
	}
	var parse *ParseError
	if !errors.As(err, &parse) || parse.Image != "broken" || len(parse.Lines) != 3 || !parse.Lines[1].At ||
		parse.Lines[1].Number != 2 || !strings.Contains(parse.Error(), "unknown instruction") {
		t.Errorf("%+v", parse)
	}
	var unread *fault.Error
	if !errors.As(err, &unread) || !strings.Contains(unread.What, "missing") {
		t.Errorf("%v", err)
	}
}

// TestFindStep is for engines that name no line.
func TestFindStep(t *testing.T) {
	f := parse(t, "FROM scratch\nRUN  make \\\n  all\nRUN make test\nRUN echo $A\n")
	for step, line := range map[string]int{"[2/4] RUN make   all": 2, "[3/4] RUN make test": 4,
		"[4/4] RUN echo $A and more": 5, "[1/1] RUN make it": 2, "[3/3] COPY a b": 0, "exporting": 0} {
		at := 0
		for _, l := range f.FindStep(step) {
			if l.At && at == 0 {
				at = l.Number
			}
		}
		if at != line {
			t.Errorf("%s: line %d, want %d", step, at, line)
		}
	}
	commented := parse(t, "FROM scratch\nRUN a \\\n  # why\n  b\\\nc\n")
	if got := commented.FindStep("[1/1] RUN a   bc"); len(got) == 0 || !got[len(got)-1].At {
		t.Errorf("%v", got)
	}
	// A long instruction is read once for each of its lines, and not for all pairs of them.
	long := "RUN true" + strings.Repeat(" \\\n  && echo something", 20_000)
	if got := parse(t, "FROM scratch\n"+long+"\n").FindStep("[1/1] " + strings.ReplaceAll(long, "\\\n",
		"")); len(got) < 20_000 {
		t.Errorf("%d lines", len(got))
	}
	empty := "FROM scratch\nRUN a \\\n" + strings.Repeat("\\\n", 40_000) + "b\n"
	if got := (&File{Data: []byte(empty)}).FindStep("[1/1] RUN c"); got != nil {
		t.Errorf("%v", got)
	}
	if got := (*File)(nil).FindStep("[1/1] RUN x"); got != nil {
		t.Errorf("%v", got)
	}
}

func TestExcerpt(t *testing.T) {
	lines := Excerpt("1\n2\n3\n4\n5\n6\n", 3, 2)
	if len(lines) != 5 || lines[0].Text != "1" || !lines[2].At || lines[3].At {
		t.Errorf("%v", lines)
	}
}
