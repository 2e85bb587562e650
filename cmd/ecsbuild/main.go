// Command ecsbuild builds and pushes the container images of an ECS service,
// and writes the definitions that CodePipeline deploys.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/config"
	"github.com/ecsbuild/ecsbuild/internal/diagnose"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/redact"
	"github.com/ecsbuild/ecsbuild/internal/relay"
)

// cli is the command line; its tags are the help text.
type cli struct {
	Run      runCmd      `cmd:"" help:"Build, push and write the definitions (what a buildspec calls)."`
	Merge    mergeCmd    `cmd:"" help:"Join the parts of a build that was spread over machines: move the tags, write the definitions."`
	Plan     planCmd     `cmd:"" help:"Show what run would do. Asks neither Docker nor AWS."`
	Login    loginCmd    `cmd:"" help:"Log the docker client in to ECR and to the configured registries, for other tools."`
	Doctor   doctorCmd   `cmd:"" help:"Check everything that run needs. Changes nothing."`
	Policy   policyCmd   `cmd:"" help:"Print the least-privilege IAM policy of this configuration."`
	Validate validateCmd `cmd:"" help:"Check a definitions file, also against a live service."`
	Init     initCmd     `cmd:"" help:"Move a buildspec of shell lines over to ecsbuild."`
	Serve    serveCmd    `cmd:"" help:"Serve the images that run --local kept, so that docker can pull them."`
	Version  versionCmd  `cmd:"" help:"Print the version."`

	Completion completionCmd `cmd:"" help:"Print the completion script of a shell."`
}

const description = `Build, push and deploy container images to Amazon ECS, from the environment of a CodeBuild project or from ecsbuild.yml.

  ecsbuild run             in a buildspec: build all images at once, push them, write imagedefinitions.json
  ecsbuild run --dry-run   on a laptop: build and tag, push nothing, no AWS credentials needed
  ecsbuild run --local     the whole job against a registry on this machine`

// app is what every command works with.
type app struct {
	ctx            context.Context
	stdout, stderr io.Writer
	getenv         func(string) string
	environ        []string

	secrets *redact.Set // those of the run, masked in all that is printed

	tell func(found []diagnose.Finding, code int) // how a command ended, nil for people
}

// source are the flags that say where the configuration is.
type source struct {
	File      string   `short:"f" placeholder:"FILE" help:"Configuration file (default: ecsbuild.yml, then ecsbuild.yaml, else the environment alone)."`
	Directory string   `short:"C" placeholder:"DIR" help:"Folder of the sources (default: the working directory)."`
	Only      []string `placeholder:"NAME" help:"Only these images, by container or repository."`

	unsetSecrets bool     // env: secrets may be unset
	noSources    bool     // nothing is built here
	platforms    []string // to keep; empty keeps all
}

// engineFlag chooses the engine that builds.
type engineFlag struct {
	Builder string `placeholder:"ENGINE" help:"Engine that builds: auto, docker (the one that the environment names), private (one that ecsbuild starts), addresses of buildkitds, as tcp://HOST:PORT, or buildx:NAME."`
}

func (s source) load(a *app, output string, engine engineFlag) (*plan.Plan, error) {
	p, err := config.Load(config.Options{
		Directory: s.Directory, File: s.File, Only: s.Only, Platforms: s.platforms, Output: output, Builder: engine.Builder,
		Environ: a.environ, UnsetSecrets: s.unsetSecrets, NoSources: s.noSources,
		Commit: func() string { return gitCommit(a.ctx, s.Directory) },
	})
	if p != nil {
		maskURLs(p, a.secrets)
	}
	return p, err
}

// maskURLs has what the plan's URLs and caches hold of secrets masked.
func maskURLs(p *plan.Plan, secrets *redact.Set) {
	for _, img := range p.Images {
		b := img.Build
		for _, u := range append(slices.Collect(maps.Values(b.AdditionalContexts)), b.Context) {
			secrets.AddURL(u)
		}
		for _, cache := range slices.Concat(b.CacheFrom, b.CacheTo) {
			for _, kv := range strings.Split(cache, ",") {
				if key, value, _ := strings.Cut(kv, "="); config.IsSecretKey(key) {
					secrets.Add(value)
				}
			}
		}
	}
}

// gitCommit is the commit of the checkout, "" where there is none.
func gitCommit(ctx context.Context, dir string) string {
	cmd := exec.CommandContext(ctx, "git", "rev-parse", "HEAD")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) (code int) {
	if len(args) > 0 && args[0] == cachemount.Command { // in a step of a build of our own
		if err := cachemount.Main(args[1:]); err != nil {
			fmt.Fprintln(stderr, "ecsbuild: "+err.Error())
			return 1
		}
		return 0
	}
	if len(args) == 2 && args[0] == relay.Command { // in a container on the host of an engine
		quietLibraries()
		if err := relay.Main(args[1], os.Stdin, stdout); err != nil {
			fmt.Fprintln(stderr, "ecsbuild: "+err.Error())
			return 1
		}
		return 0
	}
	quietLibraries()
	debug.SetGCPercent(25) // what it allocates passes through: memory is worth more than this time
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	stop := handleSignals(cancel, len(args) > 0 && slices.Contains(exitImmediately, args[0]))
	defer stop()

	a := &app{ctx: ctx, stdout: stdout, stderr: stderr, getenv: os.Getenv, environ: os.Environ(), secrets: &redact.Set{}}
	var c cli
	exited := -1
	parser, err := kong.New(&c, kong.Name("ecsbuild"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		panic(err) // the struct above is wrong, and every test says so
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err == nil {
		err = checkValues(kctx)
	}
	if err != nil {
		if args[0] == "merge" || args[0] == "run" && !slices.Contains(args, "--dry-run") {
			a.removeStaleDefinitions(args)
		}
		return a.usage(err, kctx)
	}
	findings, code := exitStatus(ctx, kctx.Run(a), movesTags(kctx.Command()) && !c.Run.DryRun)
	for i, f := range findings {
		findings[i] = f.Map(a.secrets.String)
	}
	if a.tell != nil {
		a.tell(findings, code)
	} else {
		a.printFindings(findings)
	}
	return code
}

// movesTags says that a command, as kong calls it, moves tags at its end.
func movesTags(command string) bool {
	name, _, _ := strings.Cut(command, " ")
	return name == "run" || name == "merge"
}

// checkValues refuses flags whose value is empty, most often a variable that is
// not set, and "-" where a file is written.
func checkValues(kctx *kong.Context) error {
	for _, p := range kctx.Path {
		if p.Flag == nil {
			continue
		}
		var values []string
		switch v := kctx.FlagValue(p.Flag).(type) {
		case string:
			values = []string{v}
		case []string:
			if values = v; len(v) == 0 {
				values = []string{""}
			}
		}
		for _, v := range values {
			switch {
			case v == "":
				return fmt.Errorf("--%s has an empty value: is a variable in it not set?", p.Flag.Name)
			case v == "-" && slices.Contains([]string{"output", "exports", "report"}, p.Flag.Name):
				return fmt.Errorf("--%s writes a file, and - is none: standard output has one line per image", p.Flag.Name)
			}
		}
	}
	return nil
}

// removeStaleDefinitions takes the definitions of an earlier run away where the command line
// is not understood as a whole.
func (a *app) removeStaleDefinitions(args []string) {
	value := func(names ...string) (v string) {
		for i, arg := range args {
			for _, n := range names {
				rest, ok := strings.CutPrefix(arg, n)
				switch {
				case ok && rest == "" && i+1 < len(args):
					v = args[i+1]
				case ok && strings.HasPrefix(rest, "="):
					v = rest[1:]
				case ok && !strings.HasPrefix(n, "--"):
					v = rest
				}
			}
		}
		return v
	}
	p, _ := config.Load(config.Options{Directory: value("--directory", "-C"), File: value("--file", "-f"),
		Output: value("--output"), Environ: a.environ, Commit: func() string { return "" }})
	_ = (&execution{app: a, cmd: &runCmd{Part: value("--part")}, plan: p}).clear(false)
}

// exitStatus says what became of a command, and its exit code.
func exitStatus(ctx context.Context, err error, pushes bool) ([]diagnose.Finding, int) {
	var i interrupted
	var exit exitError
	switch {
	case err == nil:
		return nil, 0 // also where a signal came when everything was done
	case errors.As(context.Cause(ctx), &i) && !tagged(err):
		text := i.Error()
		if pushes {
			text += "; no tag has moved"
		}
		return []diagnose.Finding{{What: text}}, 128 + int(i.signal)
	case errors.As(err, &exit):
		return nil, int(exit)
	}
	var f *failure
	facts := diagnose.Facts{}
	if errors.As(err, &f) {
		err, facts = f.err, f.facts
	}
	findings := diagnose.Explain(err, facts)
	return findings, int(findings[0].Exit)
}

// tagged says that a run got as far as its tags, which it then ends whatever
// signal comes: its error says how.
func tagged(err error) bool {
	var tags *pipeline.TagsError
	var file *artifact.Error
	return errors.As(err, &tags) || errors.As(err, &file) && file.Late
}

// quietLibraries keeps BuildKit's and containerd's own logs out of a run: what
// they would say comes back as an error.
func quietLibraries() {
	logrus.SetOutput(io.Discard)
	log.SetOutput(io.Discard) // HTTP/2 complains of connections that a cancelled build leaves
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// version is set by the release build.
var version = ""

type versionCmd struct{}

func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintln(a.stdout, "ecsbuild "+versionText())
	return err
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
