package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/ecsbuild/ecsbuild/internal/advice"
	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/credentials"
	"github.com/ecsbuild/ecsbuild/internal/diagnose"
	"github.com/ecsbuild/ecsbuild/internal/dockerconfig"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/part"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

type runCmd struct {
	source
	engineFlag
	Jobs     int      `placeholder:"N" default:"32" help:"Build at most N images at once (default: 32)."`
	Output   string   `placeholder:"FILE" help:"Name of the definitions file (default: imagedefinitions.json)."`
	Pin      string   `enum:"tag,digest" default:"tag" help:"Have the definitions name images by tag or by digest."`
	Progress string   `enum:"auto,tty,plain,quiet,json" default:"auto" help:"How to show progress: auto, tty, plain, quiet or json."`
	Report   string   `placeholder:"FILE" help:"Write a report of the run: FILE.html for people, FILE.json for machines."`
	NoAdvice bool     `help:"Give no advice on what would make the next build faster."`
	Part     string   `placeholder:"FILE" help:"Build a part, with --only or --platform: move no tag and write no definitions, but FILE for ecsbuild merge."`
	Platform []string `placeholder:"PLATFORM" help:"With --part: only these platforms of the images, as linux/arm64."`
	Exports  string   `placeholder:"FILE" help:"Write each container's image as shell variables, for a buildspec to source."`
	DryRun   bool     `xor:"mode" help:"Build and tag with the local engine; push nothing, print the definitions."`
	Local    bool     `xor:"mode" help:"Push to a registry on this machine, kept under .ecsbuild; needs no AWS credentials."`
}

func (*runCmd) Help() string {
	return `Examples:

  ecsbuild run                              in a buildspec: the environment, or ecsbuild.yml, says what
  ecsbuild run --dry-run                    on a laptop: builds and tags, pushes nothing
  ecsbuild run --local --report run.html    the whole job on this machine, and where its time went
  ecsbuild run --only web --pin digest      one container's image, by digest in the definitions
  ecsbuild run --only web --part web.json   one job of several; ecsbuild merge *.json does the rest`
}

func (c *runCmd) Run(a *app) error { return (&execution{app: a, cmd: c}).execute() }

func (r *execution) execute() error {
	// The reader of our output may leave, and the run ends as it should. Gates get the signal's
	// usual effect back, which they would not if it were ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if r.cmd.Progress == string(progress.JSON) {
		r.app.tell = r.tellJSON
	}
	err := r.run()
	if err != nil {
		r.removeOutputs() // no failed run leaves what a deployment would take
	}
	return err
}

// run does the whole command; files of an earlier run are removed, whatever
// is wrong.
func (r *execution) run() error {
	a, c := r.app, r.cmd
	c.platforms = c.Platform
	p, err := c.load(a, c.Output, c.engineFlag)
	r.plan = p
	format, ferr := reportFormat(c.Report)
	perr := c.checkPart()
	if err := errors.Join(err, perr, r.clear(err == nil && ferr == nil && perr == nil)); err != nil {
		return err
	}
	if c.Jobs < 1 {
		return &fault.Error{What: fmt.Sprintf("--jobs %d: at least one image must be built at a time", c.Jobs)}
	}
	if ferr != nil {
		return ferr
	}
	if c.Exports != "" && c.DryRun {
		return &fault.Error{What: "--exports cannot go with --dry-run",
			Why: "nothing is pushed that the variables could name", Fix: "leave one of them out, or use --local"}
	}
	if err := checkCacheFolder(cacheFolder(a.getenv), a.getenv); err != nil {
		return err
	}
	if r.exports, err = newExports(p, r.file(c.Exports)); err != nil {
		return err
	}
	if err := r.show(); err != nil {
		return err
	}
	defer r.display.Close()

	note := func(severity progress.Severity, text string) { r.display.Note("", severity, text) }
	r.docker = a.dockerConfig(func(warning string) { note(progress.Warning, warning) })
	r.credentials = a.credentialSource(p, r.docker, note)
	r.credentials.Cache, r.credentials.Begin = cacheFolder(a.getenv), r.display.Begin
	switch {
	case c.Part != "":
		err = r.part()
	case r.parts != nil:
		err = r.merge()
	case c.DryRun:
		err = r.dry()
	case c.Local:
		err = r.local()
	default:
		err = r.push()
	}
	advised := r.advice(err)
	r.display.Close() // what it still has to draw comes before results and errors
	if err == nil && !c.DryRun && c.Progress != string(progress.Quiet) && c.Progress != string(progress.JSON) {
		for _, line := range append(r.summaryLines, r.display.Summary()) {
			fmt.Fprintln(a.stderr, "ecsbuild: "+line)
		}
	}
	movedTags := !c.DryRun && c.Part == "" // where it went well
	if _, werr := a.stdout.Write(r.out.Bytes()); err == nil && werr != nil {
		err = &artifact.Error{File: "standard output", Late: movedTags, Err: werr}
	}
	facts := withAccounts(a.facts(p), r.credentials.Accounts)
	account := r.display.Report(r.registered(err), a.secrets.String(diagnose.Sentence(err, facts)))
	account.Advice = advised
	if werr := writeReport(r.file(c.Report), account, format); werr != nil {
		err = errors.Join(err, &artifact.Error{File: r.file(c.Report), Late: err == nil && movedTags, Err: werr})
	}
	if file := a.githubFile("GITHUB_OUTPUT"); err == nil && r.outputs != "" { // last, for they cannot be taken back
		if werr := appendTo(file, r.outputs); werr != nil {
			err = &artifact.Error{File: file, Late: true, Err: werr}
		}
	}
	if text := a.summarize(account); text != "" {
		a.warn(text)
	}
	if err != nil {
		return &failure{err: err, facts: facts}
	}
	return nil
}

// show begins to show the run.
func (r *execution) show() (err error) {
	a, p := r.app, r.plan
	var names []string
	dockerfiles := map[string]string{}
	for _, img := range p.Images {
		names = append(names, img.Name())
		dockerfiles[img.Name()] = a.inWorkspace(img.Build.Dockerfile)
	}
	terminal := isTerminal(a.stderr) && a.getenv("TERM") != "dumb"
	mode := progress.Mode(r.cmd.Progress)
	switch v := progress.Mode(a.getenv("BUILDKIT_PROGRESS")); { // as docker build takes it
	case mode != progress.Auto:
	case v == progress.Plain || v == progress.Quiet || v == progress.TTY && terminal:
		mode, r.cmd.Progress = v, string(v)
	}
	r.display, err = progress.New(mode, progress.Output{W: a.stderr, Terminal: terminal,
		Colors: terminal && a.getenv("NO_COLOR") == "", GitHub: a.getenv("GITHUB_ACTIONS") == "true", Dockerfiles: dockerfiles, Secrets: a.secrets}, names)
	if err != nil {
		return &fault.Error{What: err.Error(), Fix: "use --progress plain"}
	}
	for _, n := range p.Notes {
		r.display.Note("", progress.Info, n)
	}
	for _, w := range p.Warnings {
		r.display.Note("", progress.Warning, w)
	}
	return nil
}

// advice tells what would make the next build faster, of a run that went well.
func (r *execution) advice(err error) (lines []string) {
	if err != nil || r.cmd.NoAdvice {
		return nil
	}
	var builds []advice.Build
	for _, p := range r.pushed {
		builds = append(builds, advice.Build{Image: p.Image, Steps: p.Steps})
	}
	for _, a := range advice.For(builds) {
		text := r.app.secrets.String(a.Text)
		r.display.Note(a.Image, progress.Info, "advice: "+text)
		lines = append(lines, a.Image+": "+text)
	}
	return lines
}

// registered is what the registry has of the images under their tags, by name,
// also where the run failed when that was done.
func (r *execution) registered(err error) map[string]report.Result {
	out := map[string]report.Result{}
	var late *artifact.Error
	if err == nil || errors.As(err, &late) && late.Late {
		for _, p := range r.pushed {
			out[p.Image.Name()] = report.Result{Image: p.Refs[0].String(), Digest: p.Artifact.Root().Digest.String(),
				Size: p.Artifact.Size()}
		}
	}
	var tags *pipeline.TagsError
	if errors.As(err, &tags) {
		for _, img := range r.plan.Images {
			for _, t := range img.Tags {
				if name := img.Repository + ":" + t; slices.Contains(tags.Moved, name) {
					out[img.Name()] = report.Result{Image: name}
				}
			}
		}
	}
	return out
}

// execution is one run of the command.
type execution struct {
	app         *app
	cmd         *runCmd
	plan        *plan.Plan
	display     *progress.Display
	credentials credentials.Source
	docker      *dockerconfig.File // nil where it cannot be read
	out         bytes.Buffer       // for standard output, when the display has ended

	removable    []artifact.File // files that a failed run does not leave
	outputs      string          // for later steps of a job of GitHub Actions
	exports      exports
	summaryLines []string          // lines for the end of the log
	pushed       []pipeline.Pushed // what is in the registry under its tags
	parts        []string          // files that merge joins; nil for a run that builds
	build        part.Whole        // of which this run is a part
}

func (r *execution) connect(ctx context.Context) (pipeline.Engine, error) {
	note := func(severity progress.Severity, text string) { r.display.Note("", severity, text) }
	e, err := engines{r.app, r.plan, r.docker, note}.open(ctx)
	if err != nil {
		return nil, err
	}
	note(progress.Info, "building with "+e.String())
	if free, ok := e.FreeDisk(); ok && free < builder.LowDisk {
		r.display.Note("", progress.Warning, "the engine has only "+format.Bytes(free)+" of disk left")
	}
	return e, nil
}

func (r *execution) deps(creds func(context.Context) (*pipeline.Backends, error)) pipeline.Deps {
	return pipeline.Deps{Backends: creds, Engine: r.connect, Environ: r.app.environ, Progress: r.display}
}

func (r *execution) options() pipeline.Options {
	return pipeline.Options{Jobs: r.cmd.Jobs, Pin: r.cmd.Pin == "digest", CacheFolder: cacheFolder(r.app.getenv)}
}

// results writes one line an image, NAME, a tab, REPOSITORY:TAG@DIGEST, and
// what else was asked for.
func (r *execution) results(result *pipeline.Result, err error) error {
	if result != nil && r.cmd.Part == "" {
		r.pushed = result.Images
	}
	if err != nil {
		return err
	}
	for _, p := range result.Images {
		ref := p.Refs[0].WithDigest(p.Artifact.Root().Digest)
		if r.cmd.Part != "" {
			ref = p.Refs[0].ByDigest(p.Artifact.Root().Digest)
		}
		fmt.Fprintf(&r.out, "%s\t%s\n", p.Image.Name(), ref)
	}
	if r.cmd.Part != "" {
		return r.writePart(result)
	}
	pin := r.options().Pin
	if err := r.exports.write(result.Images, pin); err != nil {
		return err
	}
	return r.stepOutputs(result, pin)
}
