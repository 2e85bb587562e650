package pipeline

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/hoststate"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// prepare gets everything that a build needs. The engine is the caller's to close,
// unless there is an error.
func prepare(ctx context.Context, p *plan.Plan, d Deps, o Options) (*run, error) {
	span := d.Progress.Begin("", report.Prepare, "credentials, engine and checks", 0)
	r := &run{plan: p, deps: d, options: o}
	err := r.connect(ctx)
	span.End(err)
	if err == nil {
		r.makeJobs()
		if !o.Part {
			err = checkDefinitionsSize(p, r.jobs, o.Pin)
		}
	}
	if err != nil {
		if r.engine != nil {
			r.engine.Close()
		}
		return nil, err
	}
	return r, nil
}

// connect asks for everything at once; nothing is built before all of it is there.
// What is wrong comes back together, and not one mistake a run.
func (r *run) connect(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, 3+len(r.deps.Checks))
	engine := make(chan struct{}) // closed when it is known, or has failed
	wg.Go(func() {
		if r.backends, errs[0] = r.deps.Backends(ctx); errs[0] == nil {
			images := r.plan.Images
			if r.plan.MayBuildInParts() {
				<-engine
				images = r.cached()
			}
			caches := r.findCaches(ctx, images)
			errs[0] = probe(ctx, r.plan, r.backends)
			r.caches = caches()
		}
	})
	wg.Go(func() {
		defer close(engine)
		e, err := r.deps.Engine(ctx)
		if errs[1] = err; err == nil {
			r.engine = e
			errs[1] = r.checkImages()
			if errs[1] == nil && len(r.plan.Gates) > 0 {
				errs[1] = e.CanLoad(ctx)
			}
		}
	})
	wg.Go(func() {
		r.files, errs[2] = CheckDockerfiles(r.plan,
			func(image, text string) { r.deps.Progress.Note(image, progress.Warning, text) })
	})
	for i, check := range r.deps.Checks {
		wg.Go(func() { errs[3+i] = check(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// cached are the images, and parts of images, that have caches of their own.
func (r *run) cached() (out []plan.Image) {
	for _, img := range r.plan.Images {
		var parts []plan.Image
		if r.engine != nil {
			parts = r.engine.Parts(img)
		}
		if parts == nil {
			parts = []plan.Image{img}
		}
		out = append(out, parts...)
	}
	return out
}

// checkImages asks the engine whether it can do what each image asks for.
func (r *run) checkImages() error {
	var errs []error
	for _, img := range r.plan.Images {
		if r.options.dry {
			img = builder.WithoutExports(img)
		}
		errs = append(errs, r.engine.Check(img,
			func(text string) { r.deps.Progress.Note(img.Name(), progress.Warning, text) }))
	}
	return errors.Join(errs...)
}

// probe asks each repository once for what a push needs first, makes the ones
// that are missing and are to be made, and looks for tags that must be free.
func probe(ctx context.Context, p *plan.Plan, c *Backends) error {
	if c.ECR == nil {
		return nil
	}
	var wg sync.WaitGroup
	errs := make([]error, 1+len(p.Images))
	seen := map[string]bool{}
	wg.Go(func() { errs[0] = checkTagsFree(ctx, p, c) })
	for i, img := range p.Images {
		if seen[img.Repository] {
			continue
		}
		seen[img.Repository] = true
		wg.Go(func() {
			err := c.Registry.Repository(img.Repository).Probe(ctx)
			if img.Create != nil && registry.IsMissing(err) {
				err = c.ECR.CreateRepository(ctx, img)
			}
			errs[1+i] = wrap(img, err)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// checkTagsFree looks for tags that must be free.
func checkTagsFree(ctx context.Context, p *plan.Plan, c *Backends) error {
	if c.ECR == nil {
		return nil
	}
	errs := make([]error, len(p.Images))
	var wg sync.WaitGroup
	for i, img := range p.Images {
		if img.OnImmutable == plan.FailTaken {
			wg.Go(func() { errs[i] = wrap(img, c.ECR.CheckTagsFree(ctx, img)) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// makeJobs makes one job per image, and one for each part of those that are built in parts.
func (r *run) makeJobs() {
	var outputs []string
	for _, def := range r.plan.Definitions {
		if target, err := artifact.Target(def.File); err == nil {
			outputs = append(outputs, target)
		}
	}
	r.excluded = append(outputs, cacheOutputs(r.options.CacheFolder)...)
	r.jobs, r.parts = nil, map[string][]builder.Job{}
	for _, img := range r.plan.Images {
		r.jobs = append(r.jobs, r.newJob(img))
		for _, part := range r.engine.Parts(img) {
			r.parts[img.Name()] = append(r.parts[img.Name()], r.newJob(part))
		}
	}
	builder.ShareContexts(r.builds())
	builder.LinkImages(r.builds(), len(r.plan.Gates) > 0)
}

func (r *run) newJob(img plan.Image) builder.Job {
	name, b := img.Name(), r.backends
	j := builder.Job{
		Image: img, Dockerfile: r.files[name], Keep: r.options.dry, Excluded: r.excluded,
		Steps: &builder.Steps{}, Login: b.Login, Masked: b.Masked, Secrets: b.Secrets(img), Bases: b.Bases, State: b.State,
		Status: func(s *progress.BuildStatus) { r.deps.Progress.Status(name, s) },
		Note:   func(severity progress.Severity, text string) { r.deps.Progress.Note(name, severity, text) },
		Begin:  func(kind report.Kind, what string) *progress.Span { return r.deps.Progress.Begin(name, kind, what, 0) },
	}
	for _, tag := range img.Tags {
		j.Refs = append(j.Refs, image.Ref{Registry: b.Registry.Host.Name, Repository: img.Repository, Tag: tag})
	}
	if !r.options.dry {
		j.Store = b.Registry.Repository(img.Repository)
		j.Cache, j.CacheFolder = r.caches[img.PartName()], r.cacheFolder(img)
	}
	return j
}

// cacheOutputs are what no context has of the folder of caches, since a CI may keep folders of
// the checkout alone: all of it where it is ecsbuild's alone, else, as where it is the
// checkout, what ecsbuild has put there.
func cacheOutputs(folder string) (out []string) {
	if folder == "" {
		return nil
	}
	if target, err := filepath.EvalSymlinks(folder); err == nil {
		folder = target
	}
	entries, err := os.ReadDir(folder)
	foreign := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !slices.Contains(cacheEntries, e.Name()) })
	if err != nil || !foreign {
		return []string{folder}
	}
	for _, name := range cacheEntries {
		out = append(out, filepath.Join(folder, name))
	}
	return out
}

// cacheEntries are what a run puts into the folder of caches.
var cacheEntries = []string{buildCacheFolder, cacheMountsFolder, hoststate.FileName}
