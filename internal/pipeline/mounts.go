package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// keptMounts are the cache mounts of an image whose content is kept: cache_mounts.
type keptMounts struct {
	mounts []dockerfile.CacheMount
	store  mountStore
	engine string // its ID
	warm   bool   // they hold what was found: filled in this run, or by an earlier one

	fetched chan struct{}     // closed when those below are known
	found   *ocispec.Manifest // nil for nothing that is worth it
	folder  string            // with an archive for each mount, or none; "" for none at all
	until   time.Time         // when they must be full: to fetch and fill may take what it saves
}

const (
	// fillRate is how much of an archive an engine takes in a second at least, in bytes.
	fillRate = 40 << 20
	// minMountGain is what steps must have taken for their mounts to be kept.
	minMountGain = time.Second
)

// findMounts begins to fetch what is kept of the images' cache mounts. stop must be called.
func (r *run) findMounts(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	r.mounts = map[string]*keptMounts{}
	var g errgroup.Group
	for _, j := range r.jobs {
		b := j.Image.Build
		if !b.CacheMounts || b.NoCache || j.Keep || len(r.parts[j.Image.Name()]) > 0 {
			continue
		}
		k := r.newMounts(ctx, j)
		if k == nil {
			continue
		}
		r.mounts[j.Image.Name()] = k
		g.Go(func() error {
			defer close(k.fetched)
			r.fetchMounts(ctx, j.Image, k)
			return nil
		})
	}
	return func() {
		cancel()
		_ = g.Wait()
		for _, k := range r.mounts {
			if k.folder != "" {
				_ = os.RemoveAll(k.folder)
			}
		}
	}
}

// newMounts says which mounts of an image are kept, and where; nil for none.
func (r *run) newMounts(ctx context.Context, j builder.Job) *keptMounts {
	img := j.Image
	note := func(severity progress.Severity, text string) {
		r.deps.Progress.Note(img.Name(), severity, "cache_mounts: "+text)
	}
	mounts, leftOut := j.Dockerfile.CacheMounts()
	if len(leftOut) > 0 {
		note(progress.Warning, "not kept, since only the build knows what they are: "+strings.Join(leftOut, ", "))
	}
	if len(mounts) == 0 {
		return nil
	}
	engine, err := r.engine.CanKeepMounts(ctx, j)
	if err != nil {
		note(progress.Warning, "not kept: "+err.Error())
		return nil
	}
	k := &keptMounts{mounts: mounts, engine: engine, fetched: make(chan struct{})}
	switch {
	case img.Build.Cache != plan.CacheLocal:
		k.store = registryMounts{r.backends.Registry.Repository(img.Repository), img.CacheMountsTag()}
	case r.options.CacheFolder == "":
		return nil // which the cache has said already
	default:
		folder := filepath.Join(r.options.CacheFolder, cacheMountsFolder, r.localName(img))
		if err := r.folders.share(folder); err != nil {
			note(progress.Warning, "left out: "+err.Error())
			return nil
		}
		k.store = localMounts{folder, func() bool { return r.folders.own(folder) }}
	}
	return k
}

// fetchMounts gets the archives of an image's mounts, where filling them takes less than it
// saves. What goes wrong costs a line.
func (r *run) fetchMounts(ctx context.Context, img plan.Image, k *keptMounts) {
	note := func(severity progress.Severity, text string) {
		r.deps.Progress.Note(img.Name(), severity, "cache_mounts: "+text)
	}
	load, cancel := context.WithTimeout(ctx, cachePatience)
	found, err := k.store.load(load)
	cancel()
	if err == nil && found != nil && !worthFilling(found) {
		k.found = found // what is in them is known all the same
		note(progress.Info, "not filled: that would take longer than it saves")
		return
	}
	if err == nil && found != nil && r.mountsHeld(img, k, found) {
		k.found, k.warm = found, true
		return // the engine has them
	}
	if err == nil && found != nil {
		patience := time.Duration(secondsOf(found) * float64(time.Second)) // what it saves
		k.until = time.Now().Add(patience)
		fetch, cancel := context.WithDeadline(ctx, k.until)
		defer cancel()
		if k.folder, err = os.MkdirTemp("", "ecsbuild-cachemounts-"); err == nil {
			err = k.fetchLayers(fetch, found)
		}
		if fetch.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("to fetch what is kept takes longer than the %s that it saves", format.Duration(patience))
		}
	}
	var refused *registry.Error
	switch {
	case err == nil:
		k.found = found
		return
	case ctx.Err() != nil:
	case errors.As(err, &refused) && refused.IsRefused():
		k.store = nil
		note(progress.Warning, fmt.Sprintf("left out: %s on the repository %s was refused; it needs ecr:BatchGetImage and ecr:GetDownloadUrlForLayer",
			refused.Action, img.Repository))
	case registry.IsMissing(err):
	default:
		note(progress.Warning, "the mounts begin empty: "+err.Error())
	}
	if k.folder != "" {
		_ = os.RemoveAll(k.folder)
		k.folder = ""
	}
}

func (k *keptMounts) fetchLayers(ctx context.Context, m *ocispec.Manifest) error {
	g, ctx := errgroup.WithContext(ctx)
	for n, mount := range k.mounts {
		l := layerOf(m, mount)
		file := filepath.Join(k.folder, cachemount.ArchiveName(n))
		g.Go(func() error {
			if l == nil {
				return os.WriteFile(file, nil, 0o600)
			}
			return k.store.fetch(ctx, *l, file)
		})
	}
	return g.Wait()
}

func layerOf(m *ocispec.Manifest, mount dockerfile.CacheMount) *ocispec.Descriptor {
	if m == nil {
		return nil
	}
	for _, l := range m.Layers {
		if l.Annotations[mountID] == mountKey(mount) {
			return &l
		}
	}
	return nil
}

// mountKey tells mounts apart, of which several may have one ID and different owners.
func mountKey(m dockerfile.CacheMount) string {
	if !m.Owned {
		return m.ID
	}
	return fmt.Sprintf("%s %d:%d %o", m.ID, m.UID, m.GID, m.Mode)
}

func worthFilling(m *ocispec.Manifest) bool {
	var size int64
	for _, l := range m.Layers {
		size += l.Size
	}
	return float64(size)/fillRate < secondsOf(m)
}

// maxMountSeconds bounds what is believed of them.
const maxMountSeconds = 3600

// secondsOf is what the steps took that use the mounts, when those were empty.
func secondsOf(m *ocispec.Manifest) float64 {
	seconds, err := strconv.ParseFloat(m.Annotations[mountsSeconds], 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return min(seconds, maxMountSeconds)
}

// hintMounts is the kind of hint for an engine whose mounts hold what is kept of an image's.
const hintMounts = "cache_mounts"

func (r *run) hintKey(img plan.Image, k *keptMounts) string {
	return k.engine + " " + r.pushedName(img) + " " + img.Name()
}

// mountsHeld says whether the engine has filled or packed these very mounts.
func (r *run) mountsHeld(img plan.Image, k *keptMounts, m *ocispec.Manifest) bool {
	var held string
	return r.backends.State.Get(hintMounts, r.hintKey(img, k), &held) && held == digestOf(m)
}

func (r *run) holdMounts(img plan.Image, k *keptMounts, m *ocispec.Manifest) {
	r.backends.State.Put(hintMounts, r.hintKey(img, k), digestOf(m))
}

// digestOf tells artifacts apart by their layers.
func digestOf(m *ocispec.Manifest) string {
	var layers []string
	for _, l := range m.Layers {
		layers = append(layers, l.Digest.String())
	}
	return digest.FromString(strings.Join(layers, " ")).String()
}

// fillingMounts fills the cache mounts of an image before it is built.
type fillingMounts struct {
	Builder
	run *run
}

func (f *fillingMounts) Build(ctx context.Context, j builder.Job) (*image.Artifact, error) {
	if k := f.run.mounts[j.Image.Name()]; k != nil {
		f.run.fillMounts(ctx, j, k)
	}
	return f.Builder.Build(ctx, j)
}

func (r *run) fillMounts(ctx context.Context, j builder.Job, k *keptMounts) {
	select {
	case <-k.fetched:
	case <-ctx.Done():
		return
	}
	if k.folder == "" {
		return
	}
	name := j.Image.Name()
	span := r.deps.Progress.Begin(name, report.Base, "fill the cache mounts", 0)
	limited, cancel := context.WithDeadline(ctx, k.until)
	defer cancel()
	err := r.engine.FillMounts(limited, j, k.mounts, k.folder)
	span.End(err)
	switch {
	case err == nil:
		k.warm = true
		r.holdMounts(j.Image, k, k.found)
	case ctx.Err() == nil && limited.Err() != nil:
		r.deps.Progress.Note(name, progress.Warning,
			"cache_mounts: not filled, since to fetch and fill them takes longer than it saves")
	case ctx.Err() == nil:
		r.deps.Progress.Note(name, progress.Warning, "cache_mounts: not filled: "+err.Error())
	}
}
