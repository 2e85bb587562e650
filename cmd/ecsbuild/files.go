package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// file is where a file of the command line lies, "" for none.
func (r *execution) file(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.plan.Directory, name)
}

// clear takes away what an earlier run left, and makes sure that this one can
// write what it shall, before anything is built. Where the plan is not known it
// takes the definitions alone. A dry run writes a report alone.
func (r *execution) clear(known bool) error {
	isSource := func(f string) bool { return r.source(f) != "" }
	var files []string
	if !r.cmd.DryRun {
		for _, d := range r.plan.Definitions {
			files = append(files, d.File)
		}
		if known && r.cmd.Exports != "" {
			files = append(files, r.file(r.cmd.Exports))
		}
		r.taken = slices.DeleteFunc(slices.Clone(files), isSource)
	}
	if known && r.cmd.Report != "" {
		files = append(files, r.file(r.cmd.Report))
	}
	err := pipeline.Remove(slices.DeleteFunc(slices.Clone(files), isSource)...)
	for i, f := range files {
		what := r.source(f)
		if what == "" && slices.Contains(files[:i], f) {
			what = "another file of the run"
		}
		if what != "" {
			return &plan.Error{What: f + " would be written over " + what, Fix: "give each file of the run a name of its own"}
		}
	}
	if terr := pipeline.Try(files...); terr != nil {
		err = terr // says more
	}
	if file := r.app.githubFile("GITHUB_OUTPUT"); err == nil && file != "" && !r.cmd.DryRun {
		if ferr := appendTo(file, ""); ferr != nil {
			err = &pipeline.FileError{File: file, Early: true, Err: ferr}
		}
	}
	return err
}

// source says which of the run's sources a file is, "" for none.
func (r *execution) source(file string) string {
	same := func(other string) bool {
		a, err1 := os.Stat(file)
		b, err2 := os.Stat(other)
		return filepath.Clean(file) == filepath.Clean(other) || err1 == nil && err2 == nil && os.SameFile(a, b)
	}
	if r.plan.File != "" && same(r.plan.File) {
		return "the configuration"
	}
	for _, img := range r.plan.Images {
		if same(img.Build.Dockerfile) {
			return "the Dockerfile of " + img.Name()
		}
	}
	return ""
}

// githubFile is a file that the runner of GitHub Actions takes something from,
// "" elsewhere.
func (a *app) githubFile(variable string) string {
	if a.getenv("GITHUB_ACTIONS") != "true" {
		return ""
	}
	return a.getenv(variable)
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
