// Package diagnose knows what a failure means and what to do about it.
package diagnose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/aws"
	"github.com/ecsbuild/ecsbuild/internal/baseimage"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/dockerpush"
	"github.com/ecsbuild/ecsbuild/internal/endpoint"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/iampolicy"
	"github.com/ecsbuild/ecsbuild/internal/layer"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/privateengine"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// ExitCode is what a run ends with.
type ExitCode int

const (
	ExitBuild       ExitCode = 1 // a build failed
	ExitConfig      ExitCode = 2 // usage or configuration
	ExitPermission  ExitCode = 3 // credentials or permissions refused
	ExitUnreachable ExitCode = 4 // the engine, AWS or a registry could not be reached
	ExitOther       ExitCode = 5 // a push or the definitions failed for another reason
)

// A Finding says what failed, why, and what to do.
type Finding struct {
	What   string   `json:"what"`
	Why    string   `json:"why,omitempty"`
	Detail []string `json:"detail,omitempty"` // lines to read: a Dockerfile's excerpt, the end of a log
	Do     []string `json:"do,omitempty"`     // lines to follow; those that begin with a space are to be pasted
	Exit   ExitCode `json:"exit"`
	File   string   `json:"file,omitempty"` // where the mistake is, "" for nowhere
	Line   int      `json:"line,omitempty"` // in File, from 1; 0 for none
}

// Facts is what a diagnosis knows of the run beside the error.
type Facts struct {
	iampolicy.Scope
	Project   string                                 // the CodeBuild project that the run is in, "" elsewhere
	Anonymous string                                 // why Docker Hub was asked without an account, "" where it was not
	Used      func(host string) (plan.Account, bool) // the account that a registry was asked with; nil for unknown
	Refused   error                                  // what stood behind that, or nil
}

// Explain turns the errors of a run into findings, each cause once. The exit
// code of the run is that of the first.
func Explain(err error, f Facts) (out []Finding) {
	add := func(found Finding) {
		for _, o := range out {
			if o.What == found.What {
				return
			}
		}
		out = append(out, found)
	}
	for _, e := range split(err) {
		add(f.explainOne(e))
	}
	return out
}

// Map changes every text of a finding, as to keep secrets out of it.
func (f Finding) Map(text func(string) string) Finding {
	f.What, f.Why = text(f.What), text(f.Why)
	f.Detail, f.Do = slices.Clone(f.Detail), slices.Clone(f.Do)
	for i, l := range f.Detail {
		f.Detail[i] = text(l)
	}
	for i, l := range f.Do {
		f.Do[i] = text(l)
	}
	return f
}

// Sentence is what failed first and why, in a line; "" for no error.
func Sentence(err error, f Facts) string {
	if err == nil {
		return ""
	}
	first := Explain(err, f)[0]
	if first.Why != "" {
		return first.What + ": " + first.Why
	}
	return first.What
}

// split takes joined errors apart, also the ones of an image.
func split(err error) (out []error) {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			out = append(out, split(one)...)
		}
	case *pipeline.ImageError:
		for _, one := range split(e.Err) {
			out = append(out, &pipeline.ImageError{Image: e.Image, Err: one})
		}
	default:
		out = []error{err}
	}
	return out
}

func (f Facts) explainOne(err error) Finding {
	var (
		cfg         *fault.Error
		a           *aws.Error
		missing     *aws.MissingError
		reg         *registry.Error
		unreachable *endpoint.UnreachableError
		unsupported *builder.UnsupportedError
		unavailable *privateengine.UnavailableError
		build       *builder.BuildError
		parse       *dockerfile.ParseError
		file        *artifact.Error
		foreign     *artifact.ForeignError
		tags        *pipeline.TagsError
		hub         *baseimage.RefusedError
		spool       *layer.SpoolError
		taken       *registry.TagTakenError
		gate        *pipeline.GateError
		load        *pipeline.LoadError
		stalled     *builder.StalledPullError
	)
	switch {
	case errors.As(err, &gate):
		command, _, _ := strings.Cut(strings.TrimSpace(gate.Gate.Command), "\n")
		return Finding{What: "a gate failed: " + command, Why: gate.Why + "; no tag has moved",
			Detail: gate.Output, Exit: ExitBuild}
	case errors.As(err, &load):
		return f.load(load, err)
	case errors.As(err, &tags):
		found := f.explainOne(tags.Err)
		state := "no other tag has moved"
		if len(tags.Moved) > 0 {
			state = "these tags had moved before: " + strings.Join(tags.Moved, ", ")
		}
		found.Why = strings.TrimPrefix(strings.TrimSuffix(found.Why, ".")+"; "+state, "; ")
		return found
	case errors.As(err, &cfg):
		return configuration(cfg)
	case errors.As(err, &unsupported):
		found := Finding{What: fmt.Sprintf("%s: this engine cannot do %s", unsupported.Image, unsupported.Key),
			Why: "the build runs on " + unsupported.Engine, Do: []string{unsupported.Fix}, Exit: ExitConfig}
		if unsupported.NoPrivate != nil {
			found.Why += ", and " + unsupported.NoPrivate.Error()
		}
		return found
	case errors.As(err, &unavailable):
		return Finding{What: "a private engine cannot start here", Why: strings.Join(unavailable.Missing, "; "),
			Do: []string{"bring what is missing, or build with the engine that the environment names (builder: docker)"}, Exit: ExitUnreachable}
	case errors.As(err, &missing):
		return f.missing(missing)
	case errors.As(err, &a):
		return f.aws(a)
	case errors.As(err, &reg):
		found := f.registry(reg)
		var img *pipeline.ImageError
		if errors.As(err, &img) {
			found.What = img.Image.Name() + ": " + found.What
		}
		return found
	case errors.As(err, &taken):
		return Finding{What: fmt.Sprintf("the tag %s of %s already exists", taken.Tag, taken.Repository),
			Why: "it names " + taken.Digest + ", and " +
				taken.Why, Do: []string{"give this build a tag of its own (IMAGE_TAG, such as the commit)"}, Exit: ExitOther}
	case errors.As(err, &hub):
		return f.hubRefused(hub.Account)
	case errors.As(err, &stalled):
		return Finding{What: fmt.Sprintf("%s: the registry of %s does not answer the engine", stalled.Image, stalled.Base),
			Why: fmt.Sprintf("it has sent nothing for %v", stalled.After),
			Do:  []string{"check the engine's network and its proxy, and run again"}, Exit: ExitUnreachable}
	case errors.As(err, &build):
		return f.build(build)
	case errors.As(err, &parse):
		return f.build(&builder.BuildError{Image: parse.Image, Dockerfile: parse.File, Lines: parse.Lines, Err: parse.Err})
	case errors.As(err, &unreachable):
		return f.unreachable(unreachable)
	case errors.Is(err, dockerpush.ErrRelayEnded):
		return Finding{What: err.Error() + " more than once", Exit: ExitUnreachable,
			Do: []string{"see why, on that host, and run again:", "  docker events --since 10m --filter label=ecsbuild=relay"}}
	case errors.As(err, &foreign) && (file == nil && !errors.As(err, &file) || !file.Late):
		return foreignFile(foreign.File)
	case errors.As(err, &file) && file.Early:
		return Finding{What: "cannot write " + file.File, Why: withoutPath(file.Err),
			Do: []string{"nothing has been built yet: make the folder writable, or name another file"}, Exit: ExitOther}
	case errors.As(err, &file) && !file.Late:
		return Finding{What: "cannot write " + file.File, Why: withoutPath(file.Err), Exit: ExitOther}
	case errors.As(err, &file):
		return Finding{What: "cannot write " + file.File, Why: withoutPath(file.Err),
			Do: []string{"every image is in the registry under its tags; make it writable, and run again"}, Exit: ExitOther}
	case errors.As(err, &spool):
		return Finding{What: "cannot keep a layer in " + spool.Folder + " while it is compressed and sent",
			Why: spool.Err.Error(), Exit: ExitOther,
			Do: []string{"make room there, or name another folder:", "  export TMPDIR=/path/to/folder"}}
	case errors.Is(err, context.DeadlineExceeded):
		return Finding{What: "the run took too long", Why: withoutPath(err), Exit: ExitUnreachable}
	}
	return Finding{What: withoutPath(err), Exit: ExitOther}
}

// hubRefused is about a password of Docker Hub's.
func (f Facts) hubRefused(a plan.Account) Finding {
	found := Finding{What: "Docker Hub does not accept " + a.String(),
		Why: "the password or access token is wrong, or was revoked", Exit: ExitPermission}
	found.Do = []string{"make an access token at hub.docker.com and put it where the password comes from, as in",
		"  aws ssm put-parameter --region " + f.RegionName() +
			" --overwrite --type SecureString --name DOCKER_HUB_PASSWORD --value …"}
	if name, ok := strings.CutPrefix(a.From, "env:"); ok {
		found.Do = []string{"make an access token at hub.docker.com and put it where the password beside " + name + " comes from"}
	}
	if a.From == "docker login" || strings.HasPrefix(a.From, "docker-credential-") {
		found.Do = []string{"log docker in again, or out of it, to pull anonymously:", "  docker login"}
	}
	return found
}

// foreignFile is about a file that a run would have written over.
func foreignFile(f artifact.File) Finding {
	found := Finding{What: fmt.Sprintf("%s already exists, and it is not the %s of an earlier run", f.Path, f.Kind),
		Exit: ExitConfig}
	found.Why = "this run would replace it, and it may be one of your sources"
	found.Do = []string{fmt.Sprintf("choose another name (%s), or remove the file if it is not needed", f.Flag)}
	return found
}

// withoutPath drops Go's way to say a path twice.
func withoutPath(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return filepath.Clean(p.Path) + ": " + p.Err.Error()
	}
	return err.Error()
}

func configuration(e *fault.Error) Finding {
	what := e.What
	if e.Place != "" {
		what = e.Place + ": " + what
	}
	found := Finding{What: what, Why: e.Why, Exit: ExitConfig}
	if found.File = e.File; e.File != "" {
		_, rest, _ := strings.Cut(e.Place, ":") // FILE:LINE:COLUMN
		line, _, _ := strings.Cut(rest, ":")
		found.Line, _ = strconv.Atoi(line)
	}
	if e.Fix != "" {
		found.Do = []string{e.Fix}
	}
	return found
}
