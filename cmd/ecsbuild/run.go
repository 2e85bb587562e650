package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/diagnose"
	"github.com/ecsbuild/ecsbuild/internal/engine"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

type runCmd struct {
	source
	Jobs     int    `placeholder:"N" help:"Build at most N images at once (default: all)."`
	Output   string `placeholder:"FILE" help:"Name of the definitions file (default: imagedefinitions.json)."`
	Pin      string `enum:"tag,digest" default:"tag" help:"Have the definitions name images by tag or by digest."`
	Progress string `enum:"auto,tty,plain,quiet,json" default:"auto" help:"How to show progress: auto, tty, plain, quiet or json."`
	Report   string `placeholder:"FILE" help:"Write an account of the run: FILE.html for people, FILE.json for machines."`
	Exports  string `placeholder:"FILE" help:"Write each container's image as shell variables, for a buildspec to source."`
	DryRun   bool   `xor:"mode" help:"Build and tag with the local engine; push nothing, print the definitions."`
	Local    bool   `xor:"mode" help:"Push to a registry on this machine, kept under .ecsbuild; needs no AWS."`
}

func (*runCmd) Help() string {
	return `  ecsbuild run                              in a buildspec: the environment, or ecsbuild.yml, says what
  ecsbuild run --dry-run                    on a laptop: builds and tags, pushes nothing, asks nobody
  ecsbuild run --local --report run.html    the whole job on this machine, and where its time went
  ecsbuild run --only web --pin digest      one container's image, by digest in the definitions`
}

func (c *runCmd) Run(a *app) error {
	p, err := c.load(a, c.Output)
	if !c.DryRun { // which writes no file, and takes none away
		if rerr := pipeline.RemoveOld(p); rerr != nil && err == nil {
			err = rerr
		}
	}
	if err != nil {
		return err
	}
	if c.Jobs < 0 {
		return &plan.Error{What: fmt.Sprintf("--jobs %d: at least one image must be built at a time", c.Jobs)}
	}
	write, err := reportFormat(c.Report)
	if err != nil {
		return err
	}
	if c.Exports != "" && c.DryRun {
		return &plan.Error{What: "--exports cannot go with --dry-run", Why: "nothing is pushed that the variables could name", Fix: "leave one of them out, or use --local"}
	}
	exports, err := newExports(p, c.Exports)
	if err != nil {
		return err
	}
	var names []string
	for _, img := range p.Images {
		names = append(names, img.Name())
	}
	terminal := isTerminal(a.stderr) && a.getenv("TERM") != "dumb"
	display, err := progress.New(progress.Mode(c.Progress), progress.Output{W: a.stderr, Terminal: terminal,
		Colors: terminal && a.getenv("NO_COLOR") == "", GitHub: a.getenv("GITHUB_ACTIONS") == "true"}, names)
	if err != nil {
		return &plan.Error{What: err.Error(), Fix: "use --progress plain"}
	}
	defer display.Close()
	for _, w := range p.Warnings {
		display.Note("", "warning: "+w)
	}

	anonymous := &pipeline.Anonymous{}
	src := pipeline.Source{
		Plan: p, Cache: cacheFolder(a.getenv), Agent: "ecsbuild/" + versionText(), Anonymous: anonymous,
		AWS:  func(ctx context.Context) (*registry.AWS, error) { return registry.LoadAWS(ctx, p.Region) },
		Note: func(text string) { display.Note("", text) }, Begin: display.Begin,
	}
	run := execution{exports: exports, app: a, cmd: c, plan: p, display: display, source: src}
	switch {
	case c.DryRun:
		err = run.dry()
	case c.Local:
		err = run.local()
	default:
		err = run.aws()
	}
	display.Close() // what it still has to draw comes before results and errors
	if err == nil && !c.DryRun && c.Progress != string(progress.Quiet) && c.Progress != string(progress.JSON) {
		for _, line := range append(run.after, display.Summary()) {
			fmt.Fprintln(a.stderr, "ecsbuild: "+line)
		}
	}
	if _, werr := a.stdout.Write(run.out.Bytes()); err == nil {
		err = werr
	}
	facts := a.facts(p)
	facts.Anonymous, facts.Refused = anonymous.Why()
	account := display.Report(run.registered, diagnose.Sentence(err, facts))
	if werr := writeReport(p.Directory, c.Report, account, write); err == nil {
		err = werr
	}
	a.summarize(account)
	if err != nil {
		return &failure{err: err, facts: facts}
	}
	return nil
}

// facts is what a diagnosis should know of this process.
func (a *app) facts(p *plan.Plan) diagnose.Facts {
	project, _, _ := strings.Cut(a.getenv("CODEBUILD_BUILD_ID"), ":")
	return diagnose.Facts{Region: p.Region, Account: p.Account, Project: project}
}

// execution is one run of the command.
type execution struct {
	app     *app
	cmd     *runCmd
	plan    *plan.Plan
	display *progress.Display
	source  pipeline.Source
	out     bytes.Buffer // for standard output, when the display has ended

	exports    exports
	after      []string                   // lines for the end of the log
	registered map[string]progress.Result // by the image's name
}

func (r *execution) connect(ctx context.Context) (pipeline.Engine, error) {
	ep, err := engine.FindEndpoint(r.app.getenv)
	if err != nil {
		return nil, err
	}
	e, err := engine.Connect(ctx, ep)
	if err != nil {
		return nil, err
	}
	r.display.Note("", "building with "+e.String())
	if free, ok := e.FreeDisk(); ok && free < engine.LowDisk {
		r.display.Note("", "warning: the engine has only "+progress.Bytes(free)+" of disk left")
	}
	return e, nil
}

func (r *execution) deps(creds func(context.Context) (*pipeline.Credentials, error)) pipeline.Deps {
	dockerfiles := func(context.Context) error { return diagnose.CheckDockerfiles(r.plan, r.display.Note) }
	return pipeline.Deps{Credentials: creds, Engine: r.connect, Progress: r.display, Checks: []func(context.Context) error{dockerfiles}}
}

func (r *execution) options() pipeline.Options {
	return pipeline.Options{Jobs: r.cmd.Jobs, Pin: r.cmd.Pin == "digest"}
}

// aws is the real thing.
func (r *execution) aws() error {
	deps := r.deps(r.source.FromAWS)
	deps.Checks = append(deps.Checks, func(ctx context.Context) error { return diagnose.CheckServices(ctx, r.source.AWS, r.plan) })
	deps.Beside = func(ctx context.Context, creds *pipeline.Credentials) error {
		text, warning, err := diagnose.CheckHub(ctx, r.plan, creds, r.source.Agent)
		if warning && ctx.Err() == nil {
			r.display.Note("", "warning: "+text)
		}
		return err
	}
	pushed, err := pipeline.Run(r.app.ctx, r.plan, deps, r.options())
	if err != nil {
		return err
	}
	return r.results(pushed)
}

// local does the same against a registry on loopback.
func (r *execution) local() error {
	host, stop, err := registry.NewLocal(localFolder(r.plan.Directory)).Serve(r.app.ctx)
	if err != nil {
		return fmt.Errorf("the local registry cannot start: %w", err)
	}
	defer stop()
	creds := func(ctx context.Context) (*pipeline.Credentials, error) { return r.source.WithoutAWS(ctx, host) }
	pushed, err := pipeline.Run(r.app.ctx, r.plan, r.deps(creds), r.options())
	if err != nil {
		return err
	}
	r.display.Note("", "the images are kept in "+localFolder(r.plan.Directory)+"; ecsbuild serve lets docker pull them")
	return r.results(pushed)
}

func localFolder(dir string) string { return filepath.Join(dir, ".ecsbuild") }

// results writes one line an image, NAME, a tab, REPOSITORY:TAG@DIGEST, and
// what else was asked for.
func (r *execution) results(pushed []pipeline.Pushed) error {
	r.registered = map[string]progress.Result{}
	for _, p := range pushed {
		fmt.Fprintf(&r.out, "%s\t%s@%s\n", p.Image.Name(), p.URI(false), p.Built.Root().Digest)
		r.registered[p.Image.Name()] = progress.Result{Image: p.URI(false), Digest: p.Built.Root().Digest.String(), Size: p.Built.Size()}
	}
	pin := r.options().Pin
	if err := r.exports.write(pushed, pin); err != nil {
		return err
	}
	return r.outputs(r.plan, pushed, pin)
}

// dry builds and tags with the local engine, and prints what would be written.
func (r *execution) dry() error {
	host := registry.Presumed(r.plan.Account, r.plan.Region)
	if host.Name == "" {
		r.display.Note("", "account or region is unknown here, so images are named without their registry")
	}
	if r.cmd.Pin == "digest" {
		return &plan.Error{What: "--pin digest cannot go with --dry-run", Why: "an image has no digest before it is in a registry", Fix: "leave one of them out, or use --local"}
	}
	deps := r.deps(func(ctx context.Context) (*pipeline.Credentials, error) { return r.source.WithoutAWS(ctx, host) })
	contents, err := pipeline.DryRun(r.app.ctx, r.plan, deps, r.options())
	if err != nil {
		return err
	}
	for _, data := range contents {
		r.out.Write(data)
	}
	return nil
}

// cacheFolder is where the record lies: ECSBUILD_CACHE, else in the user's
// cache folder, "" where there is none.
func cacheFolder(getenv func(string) string) string {
	if dir := getenv("ECSBUILD_CACHE"); dir != "" {
		return dir
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "ecsbuild")
	}
	return ""
}
