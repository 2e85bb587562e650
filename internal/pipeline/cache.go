package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// cachePatience is how long a build waits for a registry to say whether it has a cache.
const cachePatience = 5 * time.Second

// findCaches looks for the caches that images ask for, while other things are prepared; wait
// returns what it has found, by image. BuildKit would wait for a registry that is silent,
// and a cache is not worth that.
func (r *run) findCaches(ctx context.Context, images []plan.Image) (wait func() map[string]builder.CacheStatus) {
	out := map[string]builder.CacheStatus{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, img := range images {
		wg.Go(func() {
			found := r.findCache(ctx, img)
			mu.Lock()
			defer mu.Unlock()
			out[img.PartName()] = found
		})
	}
	return func() map[string]builder.CacheStatus {
		wg.Wait()
		return out
	}
}

func (r *run) findCache(ctx context.Context, img plan.Image) builder.CacheStatus {
	switch {
	case r.options.dry || img.Build.Cache == "" || img.Build.Cache == plan.CacheInline:
		return builder.CacheNone
	case img.Build.Cache == plan.CacheLocal && r.options.CacheFolder == "":
		r.deps.Progress.Note(img.Name(), progress.Warning,
			"cache: local is left out: there is no folder for it, since neither ECSBUILD_CACHE nor HOME is set")
		return builder.CacheRefused
	case img.Build.Cache == plan.CacheLocal:
		folder := r.cacheFolder(img)
		if err := r.folders.share(folder); err != nil {
			r.deps.Progress.Note(img.Name(), progress.Warning, "cache: local is left out: "+err.Error())
			return builder.CacheRefused
		}
		found, err := builder.FindLocalCache(ctx, folder)
		if err != nil && ctx.Err() == nil {
			r.deps.Progress.Note(img.Name(), progress.Warning, fmt.Sprintf(
				"the cache in %s is damaged, and will be written anew: %v", folder, err))
			if r.folders.own(folder) { // else another run reads what is whole of it
				_ = os.RemoveAll(folder)
			}
		}
		return found
	}
	ctx, cancel := context.WithTimeout(ctx, cachePatience)
	defer cancel()
	repo := r.backends.Registry.Repository(img.Repository)
	_, data, ok, err := repo.Manifest(ctx, img.CacheTag())
	if err == nil && ok {
		err = checkCache(ctx, repo, data)
	}
	var refused *registry.Error
	switch {
	case err == nil && ok:
		return builder.CacheFound
	case err == nil || registry.IsMissing(err):
		r.deps.Progress.Note(img.Name(), progress.Info, "there is no cache at "+img.Repository+":"+img.CacheTag()+" yet")
		return builder.CacheMissing
	case errors.As(err, &refused) && refused.IsRefused():
		r.deps.Progress.Note(img.Name(), progress.Warning, fmt.Sprintf(
			"cache: registry is left out: %s on the repository %s was refused; it needs ecr:BatchGetImage and ecr:GetDownloadUrlForLayer",
			refused.Action, img.Repository))
	case ctx.Err() != nil:
		r.deps.Progress.Note(img.Name(), progress.Warning, fmt.Sprintf(
			"cache: registry is left out: the registry has not said in %s whether %s has one", cachePatience, img.Repository))
	default:
		r.deps.Progress.Note(img.Name(), progress.Warning, "cache: registry is left out: "+err.Error())
	}
	return builder.CacheRefused
}

// checkCache reads what BuildKit begins with, for which it would wait without a limit.
func checkCache(ctx context.Context, repo *registry.Repository, manifest []byte) error {
	var c image.Contents
	if err := json.Unmarshal(manifest, &c); err != nil {
		return err
	}
	if c.Config.Digest == "" {
		return errors.New("what the cache's tag names is no cache")
	}
	_, err := repo.Blob(ctx, c.Config.Digest)
	return err
}

// What lies in the folder of caches.
const (
	buildCacheFolder  = "buildcache"  // of cache: local
	cacheMountsFolder = "cachemounts" // of cache: local with cache_mounts
)

// cacheFolder is where the cache of an image lies: cache: local.
func (r *run) cacheFolder(img plan.Image) string {
	return filepath.Join(r.options.CacheFolder, buildCacheFolder, r.localName(img))
}

// localName is an image's name in a folder that projects and accounts share, whose images have
// the same names.
func (r *run) localName(img plan.Image) string {
	return img.CacheName() + "-" + digest.FromString(r.pushedName(img)).Encoded()[:8]
}

// pushedName is an image's name with its registry, without a tag.
func (r *run) pushedName(img plan.Image) string {
	return image.Ref{Registry: r.backends.Registry.Host.Name, Repository: img.Repository}.Name()
}

const (
	maxCacheExports    = 8 // at once
	cacheExportTimeout = 10 * time.Minute
)

// reason leaves out where a full disk was met on the way to a folder, of which BuildKit tells at length.
func reason(err error, j builder.Job) string {
	if text := err.Error(); strings.Contains(text, j.CacheFolder) && strings.Contains(text, syscall.ENOSPC.Error()) {
		return syscall.ENOSPC.Error() + ", in " + j.CacheFolder
	}
	return err.Error()
}

// exportCaches writes the caches of images that were built, now that nobody waits for the
// tags and definitions any more. What cannot be written does not fail the run.
func (r *run) exportCaches(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, cacheExportTimeout)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(maxCacheExports)
	write := func(j builder.Job, what string, f func(context.Context, builder.Job) error) {
		g.Go(func() error {
			name := j.Image.Name()
			span := r.deps.Progress.Begin(name, report.Cache, "write the "+what, 0)
			err := f(ctx, j)
			span.End(err)
			if err != nil {
				r.deps.Progress.Note(name, progress.Warning, "the "+what+" was not written: "+reason(err, j))
			}
			return nil
		})
	}
	for _, j := range r.builds() {
		if j.WantsCacheExport() {
			j.CacheInUse = j.Image.Build.Cache == plan.CacheLocal && !r.folders.own(j.CacheFolder)
			write(*j, "cache", r.engine.ExportCache)
		}
		if r.wantsMounts(*j) {
			write(*j, "cache of mounts", r.keepMounts)
		}
	}
	_ = g.Wait()
}
