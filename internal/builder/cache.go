package builder

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// CacheStatus is what is known before a build of the cache that its image asks for: cache:
// registry or local.
type CacheStatus string

const (
	CacheNone    CacheStatus = ""        // the image asks for none
	CacheFound   CacheStatus = "found"   // it is read, and written where something is new
	CacheMissing CacheStatus = "missing" // it is written
	CacheRefused CacheStatus = "refused" // it is neither read nor written
)

// cacheImports are the caches that a build reads: those that are named, and its own. A
// build without a cache reads none.
func (j *Job) cacheImports() (out []bkclient.CacheOptionsEntry) {
	b := j.Image.Build
	for _, c := range b.CacheFrom {
		out = append(out, cacheEntry(c))
	}
	lost := j.Steps.LostCache()
	own := j.Cache == CacheFound && !lost
	switch {
	case b.Cache == plan.CacheInline && j.Refs[0].Registry != "" && !lost:
		out = append(out, cacheEntry(j.Refs[0].String()))
	case b.Cache == plan.CacheRegistry && own:
		out = append(out, cacheEntry(j.cacheRef()))
	case b.Cache == plan.CacheLocal && own:
		out = append(out, bkclient.CacheOptionsEntry{Type: "local", Attrs: map[string]string{"src": j.CacheFolder}})
	}
	return out
}

// cacheExports are the caches that are written with the image itself.
func (j *Job) cacheExports() (out []bkclient.CacheOptionsEntry) {
	b := j.Image.Build
	for _, c := range b.CacheTo {
		out = append(out, cacheEntry(c))
	}
	if b.Cache == plan.CacheInline && j.Refs[0].Registry != "" {
		out = append(out, cacheEntry("type=inline"))
	}
	return out
}

func (j *Job) cacheRef() string { return j.Refs[0].WithTag(j.Image.CacheTag()).String() }

// ownCacheExport is the image's own cache, with the steps of all stages. ECR takes a cache
// that is an image manifest, and no other. Layers of the image are in it as they were
// pushed; those of other stages are compressed by zstd, which takes a fraction of the time.
func (j *Job) ownCacheExport() bkclient.CacheOptionsEntry {
	c := bkclient.CacheOptionsEntry{Attrs: map[string]string{"mode": "max", "compression": "zstd",
		"image-manifest": "true", "oci-mediatypes": "true"}}
	if j.Image.Build.Cache == plan.CacheLocal {
		c.Type, c.Attrs["dest"] = "local", j.CacheFolder
		c.Attrs["reset"] = strconv.FormatBool(!j.CacheInUse) // what the cache no longer names is deleted
		return c
	}
	c.Type, c.Attrs["ref"] = "registry", j.cacheRef()
	return c
}

// minCacheGain is what the steps must have taken that a cache lacks, to be worth writing it:
// that takes half a second, and whoever reads it would save less.
const minCacheGain = time.Second

// WantsCacheExport says whether a build that has ended made something that the image's
// own cache lacks, and that is worth keeping.
func (j *Job) WantsCacheExport() bool {
	if len(j.Steps.All()) == 0 {
		return false // it was not built, but reused
	}
	return j.Cache == CacheMissing || j.Cache == CacheFound && (j.Steps.LostCache() || j.Steps.Executed() >= minCacheGain)
}

// ExportCache writes the image's own cache, of a build that has ended well.
func (e *Engine) ExportCache(ctx context.Context, j Job) error {
	for range 2 { // on a machine with too much to do, BuildKit has found nothing the first time
		res, err := e.solveAgain(ctx, j, func(opt *bkclient.SolveOpt) {
			opt.CacheExports = []bkclient.CacheOptionsEntry{j.ownCacheExport()}
		})
		if err != nil || res.ExporterResponse["cache.manifest"] != "" {
			return err
		}
	}
	return errors.New("BuildKit has found no step that it could keep")
}

// A CacheError is a build that failed by what is in its cache, where all images of the run are
// to be built once more, without it.
type CacheError struct{ Err error }

func (e *CacheError) Error() string {
	return "the cache cannot be used, so the image is built without it: " + strings.TrimSpace(firstLine(e.Err))
}
func (e *CacheError) Unwrap() error { return e.Err }

// brokenCache says whether a build may have failed by what is in its cache: a blob
// that is gone, cut off or another one.
func (j *Job) brokenCache(err error) bool {
	if len(j.cacheImports()) == 0 || err == nil {
		return false
	}
	var b *BuildError
	return errors.As(err, &b) && b.ExitCode == 0 && brokenBlob.MatchString(b.Err.Error()) &&
		!strings.Contains(b.Err.Error(), "failed to resolve source metadata") // a base image that is not there
}

// brokenBlob is what errors say that containerd, BuildKit and the decompressors have of a
// blob. One of a missing file of the context, or of a step that fails, says none of it.
var brokenBlob = regexp.MustCompile(
	`sha256:[0-9a-f]{64}|short read|unexpected EOF|invalid tar header|gzip: |zstd|magic number|httpReadSeeker|failed to extract layer`)

// DropCaches has a job read no cache.
func (j *Job) DropCaches() {
	j.Image.Build.CacheFrom = nil
	j.Steps.loseCache()
}

func firstLine(err error) string {
	var b *BuildError
	text := err.Error()
	if errors.As(err, &b) {
		text = b.Message()
	}
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// lostCache says of a cache that could not be read or written what it would
// take; the build goes on without it.
func (j *Job) lostCache(v *bkclient.Vertex, s step) {
	if v.Error != "" && s.importsCache == j.cacheRef() {
		j.Steps.loseCache()
	}
	switch {
	case v.Error == "" || v.Completed == nil:
	case s.exportsCache:
		j.Note(progress.Warning, "the cache was not written, which in ECR needs what a push needs, and ecr:BatchGetImage: "+
			v.Error)
	case s.importsCache == "":
	case strings.HasSuffix(v.Error, "not found"):
		j.Note(progress.Info, "there is no cache at "+s.importsCache+" yet")
	default:
		j.Note(progress.Warning, fmt.Sprintf("the cache %s was not read, which in ECR needs ecr:BatchGetImage and ecr:GetDownloadUrlForLayer, and the image: %s", s.importsCache, v.Error))
	}
}
