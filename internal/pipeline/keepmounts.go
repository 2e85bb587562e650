package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/format"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// usesCacheMount knows a step by its name, which has the flags of its instruction.
var usesCacheMount = regexp.MustCompile(`\] RUN\s.*--mount=\S*type=cache`)

// mountSeconds is what the steps took that use cache mounts.
func mountSeconds(steps *builder.Steps) (sum time.Duration) {
	for _, s := range steps.All() {
		if usesCacheMount.MatchString(s.Name) && !s.Cached && s.Completed != nil && s.Error == "" {
			sum += s.Completed.Sub(*s.Started)
		}
	}
	return sum
}

// wantsMounts says whether steps of an image that was built have used its cache mounts.
func (r *run) wantsMounts(j builder.Job) bool {
	k := r.mounts[j.Image.Name()]
	if k == nil || mountSeconds(j.Steps) < minMountGain {
		return false
	}
	<-k.fetched
	return k.store != nil
}

// keepMounts keeps what the mounts of an image hold, where that has changed.
func (r *run) keepMounts(ctx context.Context, j builder.Job) error {
	k, took := r.mounts[j.Image.Name()], mountSeconds(j.Steps)
	folder, err := os.MkdirTemp("", "ecsbuild-cachemounts-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	listings := make([]string, len(k.mounts))
	for n, m := range k.mounts {
		if l := layerOf(k.found, m); l != nil {
			listings[n] = l.Annotations[mountListing]
		}
	}
	results, err := r.engine.PackMounts(ctx, j, k.mounts, listings, folder)
	if err != nil {
		return err
	}
	return r.saveMounts(ctx, j.Image, k, results, folder, took)
}

func (r *run) saveMounts(ctx context.Context, img plan.Image, k *keptMounts, results []cachemount.Result, folder string,
	took time.Duration) error {
	m := newMountManifest()
	changed, size := false, int64(0)
	files := map[digest.Digest]string{} // of the new layers
	for n, mount := range k.mounts {
		old := layerOf(k.found, mount)
		switch res := results[n]; {
		case res.Problem != "":
			r.deps.Progress.Note(img.Name(), progress.Warning, "cache_mounts: "+mount.ID+" is not kept: "+res.Problem)
			changed = changed || old != nil
		case res.Packed:
			file := filepath.Join(folder, cachemount.ArchiveName(n))
			l, err := mountLayerOf(file, mount, res)
			if err != nil {
				return err
			}
			files[l.Digest] = file
			changed, size = true, size+l.Size
			m.Layers = append(m.Layers, l)
		case old != nil: // it holds the same, or nothing, where no step has used it
			m.Layers = append(m.Layers, *old)
		}
	}
	if !changed {
		return nil
	}
	seconds := took.Seconds()
	if k.warm { // the steps took less with what was in them
		seconds = max(seconds, secondsOf(k.found))
	}
	m.Annotations[mountsSeconds] = strconv.FormatFloat(seconds, 'f', 1, 64)
	if !worthFilling(&m) {
		r.deps.Progress.Note(img.Name(), progress.Info, fmt.Sprintf(
			"cache_mounts: not kept, since to fill them with %s would take longer than the %s that it saves", format.Bytes(size), format.Duration(took)))
		return nil
	}
	for _, l := range m.Layers {
		if file, ok := files[l.Digest]; ok {
			if err := k.store.put(ctx, l, file); err != nil {
				return err
			}
		}
	}
	if len(m.Layers) == 0 { // an artifact has one at least
		m.Layers = []ocispec.Descriptor{m.Config}
	}
	if err := k.store.save(ctx, m); err != nil {
		return err
	}
	r.holdMounts(img, k, &m)
	r.deps.Progress.Note(img.Name(), progress.Info, "cache_mounts: kept, "+format.Bytes(size)+" of them new")
	return nil
}

// mountLayerOf describes an archive.
func mountLayerOf(file string, mount dockerfile.CacheMount, res cachemount.Result) (l ocispec.Descriptor, err error) {
	f, err := os.Open(file)
	if err != nil {
		return l, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return l, err
	}
	d, err := digest.FromReader(f)
	return ocispec.Descriptor{MediaType: mountLayer, Digest: d, Size: st.Size(),
		Annotations: map[string]string{mountID: mountKey(mount), mountListing: res.Listing}}, err
}
