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

// report prints an error and gives the exit code. In a job of GitHub Actions
// it also shows it beside the file that it is about.
func report(w io.Writer, err error, getenv func(string) string) int {
	var exit exitError
	if errors.As(err, &exit) {
		return int(exit)
	}
	var f *failure
	facts := diagnose.Facts{}
	if errors.As(err, &f) {
		err, facts = f.err, f.facts
	}
	findings := diagnose.Explain(err, facts)
	for _, found := range findings {
		print(w, found)
		if getenv("GITHUB_ACTIONS") == "true" {
			fmt.Fprintln(w, annotation(found, getenv("GITHUB_WORKSPACE")))
		}
	}
	return findings[0].Exit
}

func print(w io.Writer, f diagnose.Finding) {
	fmt.Fprintf(w, "ecsbuild: %s\n", f.What)
	details(w, "  ", f)
}

// annotation names the file as the repository has it.
func annotation(f diagnose.Finding, workspace string) string {
	place := progress.Place{File: f.File, Line: f.Line}
	if workspace == "" {
		workspace, _ = os.Getwd()
	}
	if rel, err := filepath.Rel(workspace, f.File); err == nil && filepath.IsAbs(f.File) && filepath.IsLocal(rel) {
		place.File = rel
	}
	lines := append([]string{f.What, f.Why}, f.Do...)
	return progress.Annotation("error", place, "ecsbuild", strings.Join(slices.DeleteFunc(lines, func(l string) bool { return l == "" }), "\n"))
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
func usage(w io.Writer, err error) int {
	fmt.Fprintf(w, "ecsbuild: %v\n", err)
	var p *kong.ParseError
	if errors.As(err, &p) && p.Context != nil && p.Context.Selected() != nil {
		fmt.Fprintf(w, "  do: ecsbuild %s --help\n", p.Context.Selected().Name)
	} else {
		fmt.Fprintln(w, "  do: ecsbuild --help")
	}
	return diagnose.ExitConfig
}
