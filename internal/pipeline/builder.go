package pipeline

import (
	"context"
	"errors"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// A Builder builds images. An engine is one, and so are the decorators of this
// package: reusing, reported, joining and fillingMounts.
type Builder interface {
	// Build builds an image and sends its blobs to the job's Store; no tag moves. A
	// job that stays in the engine has no artifact.
	Build(ctx context.Context, j builder.Job) (*image.Artifact, error)
}

// An Engine is a Builder that can be asked for more. *builder.Engine is one.
type Engine interface {
	Builder
	fingerprint.Builder
	// Parts are those that an image is built in, none where it is built as a whole.
	Parts(img plan.Image) []plan.Image
	// Check refuses what the engine cannot do for an image.
	Check(img plan.Image, warn func(string)) error
	// ExportCache writes the cache of a job that was built.
	ExportCache(ctx context.Context, j builder.Job) error
	// CanLoad connects to the engine that the user's docker commands reach.
	CanLoad(ctx context.Context) error
	// Load has that engine know the image of a job, which was built or not, and gives the
	// engine's ID of it; a is nil where nothing is pushed.
	Load(ctx context.Context, j builder.Job, a *image.Artifact, built bool) (id string, err error)
	// CheckLoaded says whether its name still stands for that ID.
	CheckLoaded(ctx context.Context, j builder.Job, id string) error
	// CanKeepMounts says why what cache mounts of a job hold cannot be kept, or gives the ID of
	// the engine that builds it.
	CanKeepMounts(ctx context.Context, j builder.Job) (id string, err error)
	// FillMounts unpacks archives into cache mounts that are empty.
	FillMounts(ctx context.Context, j builder.Job, mounts []dockerfile.CacheMount, archives string) error
	// PackMounts packs cache mounts that are not as their listings say into a folder.
	PackMounts(ctx context.Context, j builder.Job, mounts []dockerfile.CacheMount, listings []string,
		folder string) ([]cachemount.Result, error)
	// CloseSolves ends what is kept open from one image's build to another's, while nothing is built.
	CloseSolves()
	Close()
}

// reported says what becomes of each image that is built.
type reported struct {
	Builder
	progress Progress
}

func (r reported) Build(ctx context.Context, j builder.Job) (*image.Artifact, error) {
	name := j.Image.Name()
	a, err := r.Builder.Build(ctx, j)
	var base *builder.BaseError
	var restart *RestartError
	switch {
	case errors.As(err, &restart): // which may have a BaseError within
		r.progress.Image(name, report.Stopped, "")
	case errors.As(err, &base):
		r.progress.Image(name, report.Stopped, "")
		return nil, wrap(base.Image, base.Err)
	case err != nil && ctx.Err() != nil: // stopped by another one's failure, or by a signal
		r.progress.Image(name, report.Stopped, "")
	case err != nil:
		text, _, _ := strings.Cut(err.Error(), "\n")
		var b *builder.BuildError
		if errors.As(err, &b) && b.Step != "" {
			text = b.Step
		}
		r.progress.Image(name, report.Failed, text)
	case j.Keep:
		r.progress.Image(name, report.Done, "built")
	default:
		r.progress.Image(name, report.Done, "built, layers uploaded to "+j.Image.Repository)
	}
	return a, wrap(j.Image, err)
}
