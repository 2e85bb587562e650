package builder

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// An image that others of the run are built on is solved once, by a solve that exports
// nothing and stays open until the engine is closed. The image itself and the images that are
// built on it take the graph of that solve, and so the very results of its steps. The same is
// done for those, whose steps BuildKit may join with steps of the open solve, and for an image
// that is built without the cache: a second solve of them would run steps once more, or find
// the results of another build.

// LinkImages has the jobs know the images of the run that they are built on, and which of
// them are solved once. again says that images are asked for once more when they are built, as
// for gates.
func LinkImages(jobs []*Job, again bool) {
	byName := map[string]*Job{}
	for _, j := range jobs {
		byName[j.Image.Name()] = j
		b := j.Image.Build
		uncached := b.NoCache || j.Image.MaxAge > 0
		if len(b.ImageContexts) > 0 || uncached && (again || b.Cache != "") {
			j.result = newImageResult(j)
		}
	}
	for _, j := range jobs {
		for name, image := range j.Image.Build.ImageContexts {
			base := byName[image]
			if base.result == nil {
				base.result = newImageResult(base)
			}
			if j.bases == nil {
				j.bases = map[string]*imageResult{}
			}
			j.bases[name] = base.result
		}
	}
}

// IsLinked says that what the steps of a job come to is asked for again, for another image or for
// itself: all of it is one engine's.
func (j *Job) IsLinked() bool { return j.result != nil }

// A BaseError is the failure of an image that the one of a job is built on.
type BaseError struct {
	Image plan.Image
	Err   error
}

func (e *BaseError) Error() string { return e.Err.Error() }
func (e *BaseError) Unwrap() error { return e.Err }

// imageResult is what comes of an image that is solved once; that may be tried several times.
type imageResult struct {
	job *Job

	mu      sync.Mutex
	open    *openSolve    // of the last try, nil before the first
	err     error         // of a build that has failed for good
	changed chan struct{} // closed when one of the two above has changed
}

func newImageResult(j *Job) *imageResult {
	return &imageResult{job: j, changed: make(chan struct{})}
}

// current is the solve that others take the image from, nil for none. A nil imageResult has none.
func (r *imageResult) current() *openSolve {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil || r.open.failed() != nil {
		return nil
	}
	return r.open
}

func (r *imageResult) set(s *openSolve, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s != nil {
		r.open = s
	}
	r.err = err
	close(r.changed)
	r.changed = make(chan struct{})
}

// private says whether the build of a job, or of what it is built on, has secrets or keys of
// SSH: BuildKit asks the sessions of all builds that need a step for them, whosever it is.
func (j *Job) private() bool {
	if len(j.Image.Build.Secrets)+len(j.Image.Build.SSH) > 0 {
		return true
	}
	for _, base := range j.bases {
		if base.job.private() {
			return true
		}
	}
	return false
}

// usesHostNetwork says whether steps of a job, or of what it is built on, have the host's network.
func (j *Job) usesHostNetwork() bool {
	if j.Image.Build.Network == "host" {
		return true
	}
	for _, base := range j.bases {
		if base.job.usesHostNetwork() {
			return true
		}
	}
	return false
}

// wait waits for a solve that has not failed, until its steps have ended where the job must
// not have a part in them. Its error is a *BaseError, or the context's.
func (r *imageResult) wait(ctx context.Context, evaluated bool) (*openSolve, error) {
	for {
		r.mu.Lock()
		err, changed := r.err, r.changed
		r.mu.Unlock()
		if err != nil {
			return nil, &BaseError{r.job.Image, err}
		}
		if s := r.current(); s != nil {
			if !evaluated || s.wait(ctx) == nil {
				return s, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue // it has failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// baseSolves are the solves of the images that a job is built on, by the names of the contexts.
type baseSolves map[string]*openSolve

// waitForBases waits until the images that a job is built on are known. Its error is a
// *BaseError, or the context's.
func (j *Job) waitForBases(ctx context.Context) (baseSolves, error) {
	solves := baseSolves{}
	for name, base := range j.bases {
		s, err := base.wait(ctx, j.private())
		if err != nil {
			return nil, err
		}
		solves[name] = s
	}
	return solves, nil
}

// steps are those of all bases: their own jobs tell of them.
func (b baseSolves) steps() map[digest.Digest]bool {
	steps := map[digest.Digest]bool{}
	for _, s := range b {
		maps.Copy(steps, s.steps)
	}
	return steps
}

// missingPlatform is the name of an input that no solve has.
const missingPlatform = "another-platform"

// addTo gives a solve the bases. Their inputs have names of their own: one called context
// would be taken for the files that are sent. BuildKit looks for a platform first, and then
// for the image without one, of which there is none where the base has platforms: or else it
// would look for the name in a registry.
// https://github.com/moby/buildkit/blob/v0.34.2/frontend/dockerui/namedcontext.go
func (b baseSolves) addTo(opt *bkclient.SolveOpt) error {
	for context, s := range b {
		if only := s.platform; only != "" || len(s.definitions) > 1 {
			opt.FrontendAttrs["context:"+context] = "input:" + missingPlatform
		}
		for platform, def := range s.definitions {
			name, key := context, exptypes.ExporterImageConfigKey
			switch {
			case platform != "":
				name, key = name+"::"+platform, key+"/"+platform
			case s.platform != "":
				name += "::" + s.platform
			}
			// An image without layers has no graph, and an input must have one.
			state := llb.Scratch().File(llb.Mkdir("/", 0o755, llb.WithParents(true)),
				llb.WithCustomName("[internal] an image without layers"))
			if def != nil {
				op, err := llb.NewDefinitionOp(def)
				if err != nil {
					return err
				}
				state = llb.NewState(op)
			}
			metadata, err := json.Marshal(map[string][]byte{exptypes.ExporterImageConfigKey: s.metadata[key]})
			if err != nil {
				return err
			}
			if opt.FrontendInputs == nil {
				opt.FrontendInputs = map[string]llb.State{}
			}
			input := "image-" + name
			opt.FrontendInputs[input] = state
			opt.FrontendAttrs["context:"+name], opt.FrontendAttrs["input-metadata:"+input] = "input:"+input, string(metadata)
		}
	}
	return nil
}

// haveFailed says whether the error of a build is that of a base, which may be tried again.
func (b baseSolves) haveFailed(ctx context.Context, err error) bool {
	var v *errdefs.VertexError
	for _, s := range b {
		if errors.As(err, &v) && s.steps[digest.Digest(v.Digest)] {
			_ = s.wait(ctx)
		}
		if s.failed() != nil {
			return true
		}
	}
	return false
}
