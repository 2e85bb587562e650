// Package pipeline executes a plan: backends and engine side by side, all
// builds at once, layers on their way as they appear, and, only when every image is
// whole, the tags and then the definitions. Order, concurrency and cancellation of a
// run are here, and nowhere else.
package pipeline

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// Deps is what a run needs from outside.
type Deps struct {
	// Backends fetches what the plan names; it is called once.
	Backends func(ctx context.Context) (*Backends, error)
	// Engine connects to an engine; the run closes it.
	Engine func(ctx context.Context) (Engine, error)
	// Checks run beside the two above; nothing is built when one fails.
	Checks []func(ctx context.Context) error
	// Environ is the environment of gates: "KEY=value".
	Environ []string
	// Background runs while images are built, and stops them when it fails; nil for nothing.
	Background func(ctx context.Context, b *Backends, files dockerfile.Files) error
	Progress   Progress
}

// Progress hears what happens.
type Progress interface {
	Note(image string, severity progress.Severity, text string)
	Status(image string, s *progress.BuildStatus)
	Image(image string, state report.State, text string)
	Begin(image string, kind report.Kind, name string, size int64) *progress.Span
}

// Options of a run.
type Options struct {
	Jobs int  // how many images at once, 0 for all
	Pin  bool // definitions name digests and not tags

	CacheFolder string // of cache: local, absolute; "" for none

	Part bool // no tag moves and no definitions are written: the images are a part of a build

	dry bool // nothing is pushed
}

// Result is what a run has done.
type Result struct {
	Images      []Pushed
	Definitions [][]byte // the content of each definitions file of the plan
}

// Pushed is an image in the registry.
type Pushed struct {
	Image    plan.Image
	Refs     []image.Ref // its tags; the first one is deployed
	Artifact *image.Artifact
	Steps    []progress.BuildStep // of its build, in the order in which they began; none where it was not built
}

// Ref is what a task definition names: by tag, or by digest.
func (p Pushed) Ref(pin bool) image.Ref {
	if pin {
		return p.Refs[0].ByDigest(p.Artifact.Root().Digest)
	}
	return p.Refs[0]
}

// ImageError says which image an error belongs to.
type ImageError struct {
	Image plan.Image
	Err   error
}

func (e *ImageError) Error() string { return e.Image.Name() + ": " + e.Err.Error() }
func (e *ImageError) Unwrap() error { return e.Err }

// Run does the whole job. The first failure stops what still runs and is the
// error that comes back; the caller takes the files away then. No tag has moved,
// unless the error is a *TagsError or an *artifact.Error: with the latter comes the
// result, whose images are all in the registry.
func Run(ctx context.Context, p *plan.Plan, d Deps, o Options) (*Result, error) {
	r, err := prepare(ctx, p, d, o)
	if err != nil {
		return nil, err
	}
	defer r.folders.release()
	defer r.engine.Close()
	stopMounts := r.findMounts(ctx)
	defer stopMounts()
	states, stop := readTagStates(ctx, r.backends, p.Images, tagStatePatience)
	defer stop()
	defer r.backends.State.Save()
	images, err := r.build(ctx)
	if err != nil {
		return nil, err
	}
	if o.Part {
		return r.leavePart(ctx, images)
	}
	if err := r.runGates(ctx, images); err != nil {
		return nil, err
	}
	result, err := r.publish(ctx, images, states())
	if err == nil {
		r.backends.State.Save() // whatever becomes of the caches
		r.exportCaches(ctx)
	}
	return result, err
}

// publish moves the tags and writes the definitions.
func (r *run) publish(ctx context.Context, images []Pushed, known map[string]registry.TagState) (*Result, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	said := r.deps.Progress
	span := said.Begin("", report.Tags, "tags", 0)
	stopTelling := context.AfterFunc(ctx, func() {
		said.Note("", progress.Info, "tags are moving: the run ends when all have; a second signal ends it at once, with some of them moved")
	})
	err := moveTags(ctx, r.backends, images, known, r.put)
	stopTelling()
	span.End(err)
	if err != nil {
		return nil, err
	}
	result := &Result{Images: images}
	if result.Definitions, err = definitions(r.plan, images, r.options.Pin); err == nil {
		err = writeDefinitions(r.plan, result.Definitions)
	}
	return result, err
}

// run is a run that has all that it needs to build.
type run struct {
	plan     *plan.Plan
	deps     Deps
	options  Options
	backends *Backends
	engine   Engine
	files    dockerfile.Files
	jobs     []builder.Job                  // one per image, in the order of the plan
	parts    map[string][]builder.Job       // of those that are built in parts, by image
	caches   map[string]builder.CacheStatus // by part name
	mounts   map[string]*keptMounts         // by image
	folders  folderLocks
	excluded []string // files and folders of the run that no context has, absolute
	put      bool     // all manifests are in the registry, by their digests
}

// build runs all builds at once. Their layers are in the registry when it
// returns, and no manifest.
func (r *run) build(ctx context.Context) ([]Pushed, error) {
	defer r.backends.Bases.Close()
	ctx, stop := background(ctx, r)
	defer stop()
	b := &reusing{
		Builder:  reported{joining{&fillingMounts{r.engine, r}, r}, r.deps.Progress},
		backends: r.backends,
		hasher:   fingerprint.NewHasher(r.engine, r.backends.Bases.Resolve, r.excluded),
		progress: r.deps.Progress,
	}
	caches := true
	for restarts := 0; ; restarts++ {
		images, err := r.buildAll(ctx, b)
		var broken *builder.CacheError
		var restart *RestartError
		why := ""
		switch {
		case errors.As(err, &broken) && caches:
			caches, why = false, broken.Error()
		case errors.As(err, &restart) && restarts < maxRestarts:
			why = restart.Error()
		default:
			return images, err
		}
		r.engine.CloseSolves()
		r.deps.Progress.Note("", progress.Warning, why)
		r.makeJobs()
		if !caches {
			for _, j := range r.builds() {
				j.DropCaches()
			}
		}
	}
}

// maxRestarts is how often builds begin again: with several builders, each loss may ask for it.
const maxRestarts = 4

// A RestartError asks for all builds to begin again, since images that are built on each other
// cannot go to another builder one by one. What other builders have built is in their caches.
type RestartError struct{ Err error }

func (e *RestartError) Error() string {
	return "images that are built on each other are built again: " + e.Err.Error()
}
func (e *RestartError) Unwrap() error { return e.Err }

// builds are the jobs that an engine gets: images, and parts of images.
func (r *run) builds() (out []*builder.Job) {
	for i := range r.jobs {
		parts := r.parts[r.jobs[i].Image.Name()]
		for n := range parts {
			out = append(out, &parts[n])
		}
		if len(parts) == 0 {
			out = append(out, &r.jobs[i])
		}
	}
	return out
}

// buildAll builds as many images at once as the options allow, beginning with the first
// of the plan. The first failure stops the others, and is what comes back.
func (r *run) buildAll(ctx context.Context, b Builder) ([]Pushed, error) {
	built := make([]Pushed, len(r.jobs))
	g, ctx := errgroup.WithContext(ctx)
	if r.options.Jobs > 0 {
		g.SetLimit(r.options.Jobs)
	}
	for _, i := range r.plan.BuildOrder() { // one waits for those that it is built on
		j := r.jobs[i]
		built[i] = Pushed{Image: j.Image, Refs: j.Refs}
		steps := []*builder.Steps{j.Steps}
		for _, part := range r.parts[j.Image.Name()] {
			steps = append(steps, part.Steps)
		}
		g.Go(func() (err error) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			built[i].Artifact, err = b.Build(ctx, j)
			for _, s := range steps {
				built[i].Steps = append(built[i].Steps, s.All()...)
			}
			return err
		})
	}
	return built, g.Wait()
}

// background starts what runs beside the builds: its failure ends their context,
// and nothing waits for its success.
func background(ctx context.Context, r *run) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if r.deps.Background == nil {
			return
		}
		if err := r.deps.Background(ctx, r.backends, r.files); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

func wrap(img plan.Image, err error) error {
	if err == nil {
		return nil
	}
	return &ImageError{Image: img, Err: err}
}
