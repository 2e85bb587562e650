package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
)

// file is where a file of the command line lies, "" for none.
func (r *execution) file(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.plan.Directory, name)
}

// files are those that the run writes. Where the plan is not known they
// are the definitions and the part alone.
func (r *execution) files(known bool) (out []artifact.File) {
	for _, d := range r.plan.Definitions {
		out = append(out, pipeline.DefinitionsFile(d))
	}
	if known && r.cmd.Exports != "" {
		out = append(out, artifact.File{Path: r.file(r.cmd.Exports), Kind: artifact.Exports, Flag: "--exports"})
	}
	if r.cmd.Part != "" { // an earlier one must not be merged
		out = append(out, r.partFile())
	}
	if known && r.cmd.Report != "" {
		out = append(out, artifact.File{Path: r.file(r.cmd.Report), Kind: artifact.Report, Flag: "--report"})
	}
	return out
}

// clear removes what an earlier run left, and makes sure that this one can write
// its files, before anything is built. A file that is not an earlier output is
// left alone, and is an error. A dry run writes a report alone.
func (r *execution) clear(known bool) error {
	var errs []error
	var targets []string
	for _, f := range r.files(known) {
		if err := f.Check(r.mayBeEmpty(f)); err != nil {
			errs = append(errs, unusable(f, err))
			continue
		}
		target, err := artifact.Target(f.Path)
		if err == nil && slices.Contains(targets, target) {
			err = &fault.Error{What: f.Path + " would be written over another file of the run",
				Fix: "give each file of the run a name of its own"}
		}
		if err != nil {
			errs = append(errs, unusable(f, err))
			continue
		}
		targets = append(targets, target)
		if r.cmd.DryRun && f.Kind != artifact.Report {
			continue
		}
		err = f.Remove(r.mayBeEmpty(f))
		if f.Kind != artifact.Report {
			r.removable = append(r.removable, f)
		}
		if terr := f.Try(); terr != nil {
			err = terr // says more
		}
		if err != nil {
			errs = append(errs, unusable(f, err))
		}
	}
	if file := r.app.githubFile("GITHUB_OUTPUT"); file != "" && !r.cmd.DryRun && len(errs) == 0 {
		if err := appendTo(file, ""); err != nil {
			errs = append(errs, &artifact.Error{File: file, Early: true, Err: err})
		}
	}
	return errors.Join(errs...)
}

// checkFiles says which files of the run cannot be written, and changes nothing.
func (r *execution) checkFiles() error {
	var errs []error
	for _, f := range r.files(true) {
		err := f.Check(r.mayBeEmpty(f))
		if err == nil {
			err = f.Try()
		}
		if err != nil {
			errs = append(errs, unusable(f, err))
		}
	}
	return errors.Join(errs...)
}

// unusable says which file of the run cannot be used; errors for the user stay.
func unusable(f artifact.File, err error) error {
	var foreign *artifact.ForeignError
	var config *fault.Error
	if errors.As(err, &foreign) || errors.As(err, &config) {
		return err
	}
	return &artifact.Error{File: f.Path, Early: true, Err: err}
}

// mayBeEmpty says whether an empty file may be taken for one to write to, as
// mktemp makes it: among the sources it may be one that an image needs.
func (r *execution) mayBeEmpty(f artifact.File) bool {
	folders := []string{r.plan.Directory}
	for _, img := range r.plan.Images {
		folders = append(folders, img.Build.Context)
		folders = slices.AppendSeq(folders, maps.Values(img.Build.AdditionalContexts))
	}
	target, err := artifact.Target(f.Path)
	return err == nil && !slices.ContainsFunc(folders, func(dir string) bool {
		rel, err := filepath.Rel(artifact.Folder(dir), target)
		return err == nil && filepath.IsLocal(rel)
	})
}

// removeOutputs removes what a failed run must not leave.
func (r *execution) removeOutputs() {
	for _, f := range r.removable {
		_ = f.Remove(r.mayBeEmpty(f))
	}
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
