package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/config"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/part"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/redact"
)

// checkPart refuses flags that cannot go with --part, or not without it.
func (c *runCmd) checkPart() error {
	refuse := func(what, why, fix string) error { return &fault.Error{What: what, Why: why, Fix: fix} }
	switch {
	case c.Part == "" && len(c.Platform) > 0:
		return refuse("--platform goes with --part alone", "the tag would lose the other platforms",
			"add --part FILE, or change platforms in the configuration")
	case c.Part == "":
		return nil
	case c.DryRun:
		return refuse("--part cannot go with --dry-run", "nothing is pushed that could be merged", "leave one of them out")
	case c.Local:
		return refuse("--part cannot go with --local", "the parts of a build meet in a registry that all machines reach",
			"leave one of them out")
	case c.Part == "-":
		return refuse("--part writes a file, and - is none", "standard output has one line per image", "name a file")
	case c.Output != "" || c.Pin == "digest":
		return refuse("--output and --pin cannot go with --part", "a part writes no definitions",
			"give them to ecsbuild merge")
	case c.Exports != "":
		return refuse("--exports cannot go with --part", "no tag moves that the variables could name",
			"give --exports to ecsbuild merge")
	}
	return nil
}

func (r *execution) partFile() artifact.File {
	return artifact.File{Path: r.file(r.cmd.Part), Kind: artifact.Part, Flag: "--part"}
}

// part builds some images of the plan, and leaves the rest to ecsbuild merge.
func (r *execution) part() error {
	var err error
	if r.build, err = r.whole(); err != nil { // now, and not when the sources may have changed
		return err
	}
	deps := r.awsDeps()
	if len(r.plan.Gates) > 0 {
		r.display.Note("", progress.Info, "gates run when the parts are merged")
	}
	r.plan.Gates = nil
	options := r.options()
	options.Part = true
	return r.results(pipeline.Run(r.app.ctx, r.plan, deps, options))
}

// writePart writes the file of a part that is in the registry.
func (r *execution) writePart(result *pipeline.Result) error {
	f := part.File{Registry: result.Images[0].Refs[0].Registry, Commit: r.build.Commit,
		Checkout: r.build.Checkout, Plan: r.build.Lines}
	for _, p := range result.Images {
		f.Images = append(f.Images, part.Image{Name: p.Image.Name(), Platforms: p.Image.Part,
			Args: part.Checksums(p.Image.Build.Args), Manifests: p.Artifact.Manifests})
	}
	data, err := part.Encode(f)
	if err == nil {
		err = r.partFile().Write(data)
	}
	if err != nil {
		return &artifact.Error{File: r.file(r.cmd.Part), Err: err}
	}
	r.summaryLines = append(r.summaryLines, "no tag has moved: "+r.cmd.Part+" is for ecsbuild merge")
	return nil
}

// whole is what all parts of a build have in common.
func (r *execution) whole() (part.Whole, error) {
	s := r.cmd.source
	s.Only, s.platforms = nil, nil
	s.unsetSecrets, s.noSources = true, true // which those may have that build the others
	p, err := s.load(r.app, "", r.cmd.engineFlag)
	if err != nil {
		return part.Whole{}, err
	}
	checkout := gitCommit(r.app.ctx, s.Directory)
	return part.Whole{Images: p.Images, Lines: planLines(p), Checkout: checkout,
		Commit: config.Commit(config.Options{Environ: r.app.environ, Commit: func() string { return checkout }})}, nil
}

// planLines describe what a whole build makes. They are the same on all machines: without arguments
// and labels, which may name the job that builds, and without the paths of keys for ssh. What URLs
// have of secrets is masked, and nothing else, since a job may have secrets that others have not.
func planLines(p *plan.Plan) []string {
	masked := &redact.Set{}
	maskURLs(p, masked)
	q := *p
	q.Gates = nil // which merge alone runs
	q.Images = slices.Clone(p.Images)
	for i := range q.Images {
		build := &q.Images[i].Build
		build.Args, build.Labels, build.SSH = nil, nil, slices.Clone(build.SSH)
		for n, key := range build.SSH {
			build.SSH[n], _, _ = strings.Cut(key, "=")
		}
	}
	var b strings.Builder
	describeBuild(&b, &q, func(path string) string {
		if rel, err := filepath.Rel(p.Directory, path); err == nil {
			return rel
		}
		return path
	})
	text := strings.ToValidUTF8(masked.String(b.String()), "\uFFFD") // as JSON has it
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
