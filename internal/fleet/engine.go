package fleet

import (
	"context"
	"errors"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Check refuses what the members of an image cannot do.
func (f *Fleet) Check(img plan.Image, warn func(string)) error {
	parts := f.parts[img.Name()]
	if len(parts) == 0 {
		return f.units[img.PartName()].order[0].Check(img, warn)
	}
	if img.Build.CacheMounts {
		warn("cache_mounts: not kept, since the image is built by several builders")
	}
	if len(img.Build.CacheTo) > 0 {
		warn("cache_to: each of the builders of the image writes the cache of its own part there, over that of the others; " +
			"cache has one for each part")
	}
	var errs []error
	for i, part := range parts {
		once := warn
		if i > 0 {
			once = func(string) {}
		}
		errs = append(errs, f.units[part.PartName()].order[0].Check(part, once))
	}
	return errors.Join(errs...)
}

// ExportCache has the member that has built a job write its cache.
func (f *Fleet) ExportCache(ctx context.Context, j builder.Job) error {
	m, j := f.builderOf(j)
	return m.ExportCache(ctx, j)
}

// CanLoad connects to the user's engine.
func (f *Fleet) CanLoad(ctx context.Context) error {
	for _, m := range f.members {
		if err := m.CanLoad(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Load has the user's engine know an image; of several parts, one.
func (f *Fleet) Load(ctx context.Context, j builder.Job, a *image.Artifact, built bool) (string, error) {
	m, j := f.builderOf(j)
	return m.Load(ctx, j, a, built)
}

// CheckLoaded asks the user's engine.
func (f *Fleet) CheckLoaded(ctx context.Context, j builder.Job, id string) error {
	m, j := f.builderOf(j)
	return m.CheckLoaded(ctx, j, id)
}

// CanKeepMounts asks the member that will build a job.
func (f *Fleet) CanKeepMounts(ctx context.Context, j builder.Job) (string, error) {
	m, j := f.builderOf(j)
	return m.CanKeepMounts(ctx, j)
}

// FillMounts fills those of the member that will build a job.
func (f *Fleet) FillMounts(ctx context.Context, j builder.Job, mounts []dockerfile.CacheMount, archives string) error {
	m, j := f.builderOf(j)
	return m.FillMounts(ctx, j, mounts, archives)
}

// PackMounts packs those of the member that has built a job.
func (f *Fleet) PackMounts(ctx context.Context, j builder.Job, mounts []dockerfile.CacheMount, listings []string,
	folder string) ([]cachemount.Result, error) {
	m, j := f.builderOf(j)
	return m.PackMounts(ctx, j, mounts, listings, folder)
}

// Platform is an error: every image names its own.
func (f *Fleet) Platform(context.Context) (string, error) {
	return "", errors.New("several builders have no platform of their own")
}

// LocalDigests are none, as of any buildkitd.
func (f *Fleet) LocalDigests(context.Context, string) []string { return nil }

// HasSourcePolicy is the same for all members.
func (f *Fleet) HasSourcePolicy() bool { return f.members[0].HasSourcePolicy() }
