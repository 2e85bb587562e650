package main

import (
	"context"
	"errors"
	"io/fs"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/part"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

type mergeCmd struct {
	Parts []string `arg:"" name:"part" sep:"none" help:"Files that ecsbuild run --part has written, of all images of the configuration; -C is where their names begin."`

	File      string `short:"f" placeholder:"FILE" help:"Configuration file (default: ecsbuild.yml, then ecsbuild.yaml, else the environment alone)."`
	Directory string `short:"C" placeholder:"DIR" help:"Folder of the sources (default: the working directory)."`
	Output    string `placeholder:"FILE" help:"Name of the definitions file (default: imagedefinitions.json)."`
	Pin       string `enum:"tag,digest" default:"tag" help:"Have the definitions name images by tag or by digest."`
	Progress  string `enum:"auto,tty,plain,quiet,json" default:"auto" help:"How to show progress: auto, tty, plain, quiet or json."`
	Report    string `placeholder:"FILE" help:"Write a report: FILE.html for people, FILE.json for machines."`
	Exports   string `placeholder:"FILE" help:"Write each container's image as shell variables, for a buildspec to source."`
}

func (*mergeCmd) Help() string {
	return `Examples:

  ecsbuild run --only web --part web.json          in one job
  ecsbuild run --only worker --part worker.json    in another
  ecsbuild merge web.json worker.json              in the last: all tags move, or none`
}

func (c *mergeCmd) Run(a *app) error {
	from := source{File: c.File, Directory: c.Directory, unsetSecrets: true, noSources: true}
	run := &runCmd{source: from, Jobs: 1, Output: c.Output, Pin: c.Pin,
		Progress: c.Progress, Report: c.Report, Exports: c.Exports, NoAdvice: true}
	return (&execution{app: a, cmd: run, parts: c.Parts}).execute()
}

// merge joins the parts and does the rest of the run.
func (r *execution) merge() error {
	parts, err := r.readParts()
	if err != nil {
		return err
	}
	whole, err := r.whole()
	if err != nil {
		return err
	}
	if whole.Commit == "" {
		r.display.Note("", progress.Warning, "no commit is known here, so parts of different sources cannot be told apart")
	}
	joined, err := part.Join(whole, parts)
	if err != nil {
		return err
	}
	for _, w := range joined.Warnings {
		r.display.Note("", progress.Warning, w)
	}
	for _, img := range whole.Images {
		r.display.Image(img.Name(), report.Done, "built by another job")
	}
	// The images are built: their secrets and base images are no matter here.
	slim := *r.plan
	slim.Logins, slim.Images = nil, nil
	for _, img := range r.plan.Images {
		img.Build.Secrets = nil
		slim.Images = append(slim.Images, img)
	}
	r.credentials.Plan = &slim
	deps := r.awsDeps()
	deps.Background = nil
	deps.Engine = r.gateEngine
	return r.results(pipeline.Merge(r.app.ctx, &slim, joined.Artifacts, joined.Registry, deps, r.options()))
}

// gateEngine is the one that docker's own commands reach, as gates call them.
func (r *execution) gateEngine(ctx context.Context) (pipeline.Engine, error) {
	ep, err := endpoint.FindDocker(r.app.getenv)
	if err != nil {
		return nil, err
	}
	e, err := builder.Open(ctx, builder.Choice{Endpoint: ep, Docker: ep, Builder: plan.BuilderDocker})
	if err != nil {
		return nil, err // and no nil pointer in an interface
	}
	return e, nil
}

func (r *execution) readParts() (parts []part.Named, _ error) {
	var errs fault.Errors
	for _, name := range r.parts {
		f, err := part.Read(r.app.ctx, r.file(name))
		if err != nil {
			why := err
			if p := (*fs.PathError)(nil); errors.As(err, &p) {
				why = p.Err
			}
			errs = append(errs, &fault.Error{What: "cannot read the part " + name, Why: why.Error(),
				Fix: "name files that ecsbuild run --part has written"})
			continue
		}
		parts = append(parts, part.Named{File: f, Name: name})
	}
	return parts, errs.OrNil()
}
