package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/ecsbuild/ecsbuild/internal/diagnose"
	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// The voice of an error, here and nowhere else:
//
//	ecsbuild: what failed, lower case and without a full stop
//	  why: in plain words
//	  > 12  RUN the lines to look at
//	  do: what to do
//	      the line to paste
//
// Warnings say "warning:" first. Results go to standard output; everything
// that is said here goes to standard error.

// failure is an error whose facts the run has gathered.
type failure struct {
	err   error
	facts diagnose.Facts
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// report prints what failed. In a job of GitHub Actions it also shows it beside
// the file that it is about.
func (a *app) printFindings(findings []diagnose.Finding) {
	github := a.getenv("GITHUB_ACTIONS") == "true"
	for _, found := range findings {
		var b strings.Builder
		print(&b, found)
		_ = a.lines(a.stderr, b.String())
		if github {
			fmt.Fprintln(a.stderr, a.annotation(found))
		}
	}
}

// lines writes text that may hold anybody's words, fit for where it goes.
func (a *app) lines(w io.Writer, text string) error {
	fit := a.fit()
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(w, fit(line)); err != nil {
			return err
		}
	}
	return nil
}

// fit makes a line fit for where it goes, and masks the run's secrets.
func (a *app) fit() func(string) string {
	fit := format.Clean
	if a.getenv("GITHUB_ACTIONS") == "true" {
		fit = format.Inert
	}
	// Once more when it fits: a control character may have stood in a secret.
	return func(s string) string { return a.secrets.String(fit(a.secrets.String(s))) }
}

// tellJSON says how a run ended, in the format of --progress json.
func (r *execution) tellJSON(findings []diagnose.Finding, code int) {
	fit := func(lines []string) (out []string) {
		for _, l := range lines {
			out = append(out, r.app.secrets.String(format.Clean(l)))
		}
		return out
	}
	for _, f := range findings {
		r.app.line(progress.Line{Type: "error", Text: f.What, Why: f.Why, Detail: fit(f.Detail), Do: f.Do, File: f.File,
			Number: f.Line})
	}
	end := r.display.End()
	end.Status = "done"
	if code != 0 {
		end.Status = "failed"
	}
	r.app.line(end)
}

func (a *app) line(l progress.Line) { progress.WriteLine(a.stderr, l) }

// warn says what is wrong with a run that goes well, when its display has ended.
func (a *app) warn(text string) {
	text = a.secrets.String(text)
	if a.tell != nil {
		a.line(progress.Line{Type: "warning", Text: text})
		return
	}
	fmt.Fprintln(a.stderr, "ecsbuild: warning: "+text)
}

func print(w io.Writer, f diagnose.Finding) {
	fmt.Fprintf(w, "ecsbuild: %s\n", f.What)
	details(w, "  ", f)
}

func (a *app) annotation(f diagnose.Finding) string {
	lines := append([]string{f.What, f.Why}, f.Do...)
	return progress.Annotation("error", progress.Place{File: a.inWorkspace(f.File), Line: f.Line}, "ecsbuild",
		strings.Join(slices.DeleteFunc(lines, func(l string) bool { return l == "" }), "\n"))
}

// inWorkspace names a file as the repository has it, where it is there.
func (a *app) inWorkspace(file string) string {
	workspace := a.getenv("GITHUB_WORKSPACE")
	if workspace == "" {
		workspace, _ = os.Getwd()
	}
	if rel, err := filepath.Rel(workspace, file); err == nil && filepath.IsAbs(file) && filepath.IsLocal(rel) {
		return rel
	}
	return file
}

// details prints all but the first line of a finding.
func details(w io.Writer, indent string, f diagnose.Finding) {
	if f.Why != "" {
		fmt.Fprintf(w, "%swhy: %s\n", indent, strings.ReplaceAll(strings.TrimSpace(f.Why), "\n", "\n     "+indent))
	}
	for _, l := range f.Detail {
		fmt.Fprintf(w, "%s%s\n", indent, l)
	}
	for i, l := range f.Do {
		label := "    "
		if i == 0 {
			label = "do: "
		}
		fmt.Fprintf(w, "%s%s%s\n", indent, label, l)
	}
}

// usage prints what the command line did not understand.
func (a *app) usage(err error, kctx *kong.Context) int {
	do := "ecsbuild --help"
	var p *kong.ParseError
	if errors.As(err, &p) {
		kctx = p.Context
	}
	if kctx != nil && kctx.Selected() != nil {
		do = "ecsbuild " + kctx.Selected().Name + " --help"
	}
	_ = a.lines(a.stderr, fmt.Sprintf("ecsbuild: %v\n  do: %s\n", err, do))
	return int(diagnose.ExitConfig)
}
