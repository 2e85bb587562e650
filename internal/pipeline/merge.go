package pipeline

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// leavePart puts the manifests of a part by their digests, under no tag.
func (r *run) leavePart(ctx context.Context, images []Pushed) (*Result, error) {
	if err := r.putManifests(ctx, report.Tags, images); err != nil {
		return nil, err
	}
	r.backends.State.Save()
	r.exportCaches(ctx)
	return &Result{Images: images}, nil
}

// putManifests puts all manifests of images by their digests.
func (r *run) putManifests(ctx context.Context, kind report.Kind, images []Pushed) error {
	span := r.deps.Progress.Begin("", kind, "manifests", 0)
	err := putManifests(ctx, r.backends.Registry, images, true)
	span.End(err)
	r.put = err == nil
	return err
}

// Merge does what is left of a run whose images were built in parts: gates, tags and definitions.
// The artifacts are those of the plan's images, and are in the registry at host. Deps.Engine is
// asked for gates alone. Its errors are those of Run.
func Merge(ctx context.Context, p *plan.Plan, artifacts []*image.Artifact, host string, d Deps, o Options) (*Result,
	error) {
	r := &run{plan: p, deps: d, options: o}
	span := d.Progress.Begin("", report.Prepare, "credentials and checks", 0)
	err := r.connectForMerge(ctx, host)
	span.End(err)
	if r.engine != nil {
		defer r.engine.Close()
	}
	if err != nil {
		return nil, err
	}
	defer r.backends.Bases.Close()
	states, stop := readTagStates(ctx, r.backends, p.Images, mergeTagStatePatience)
	defer stop()
	defer r.backends.State.Save()
	var images []Pushed
	for i, img := range p.Images {
		j := r.newJob(img)
		r.jobs = append(r.jobs, j)
		images = append(images, Pushed{Image: img, Refs: j.Refs, Artifact: artifacts[i]})
	}
	if err := checkDefinitionsSize(p, r.jobs, o.Pin); err != nil {
		return nil, err
	}
	// Gates pull by these digests, and an image that is gone since it was built shows before any tag
	// has moved.
	if err := r.putManifests(ctx, report.Prepare, images); err != nil {
		return nil, err
	}
	if err := r.runGates(ctx, images); err != nil {
		return nil, err
	}
	return r.publish(ctx, images, states())
}

func (r *run) connectForMerge(ctx context.Context, host string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if r.backends, err = r.deps.Backends(ctx); err != nil {
			return err
		}
		if got := r.backends.Registry.Host.Name; got != host {
			return &fault.Error{What: "the parts went to " + host + ", and this is " + got,
				Fix: "merge with the account and region that the parts were built with"}
		}
		return checkTagsFree(ctx, r.plan, r.backends) // once more: the parts have asked before they were built
	})
	if len(r.plan.Gates) > 0 {
		g.Go(func() error {
			e, err := r.deps.Engine(ctx)
			if err != nil {
				return err
			}
			r.engine = e
			return e.CanLoad(ctx)
		})
	}
	errs := make([]error, len(r.deps.Checks))
	for i, check := range r.deps.Checks {
		g.Go(func() error { errs[i] = check(ctx); return nil })
	}
	return errors.Join(append([]error{g.Wait()}, errs...)...)
}
