package pipeline

import (
	"context"
	"errors"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// A Builder builds images. An engine is one, and so are the decorators of this
// package: limited, reusing and reported.
type Builder interface {
	// Build builds an image and sends its blobs to the job's Store; no tag moves. The
	// artifact of a job that stays in the engine is empty.
	Build(ctx context.Context, j builder.Job) (*image.Artifact, error)
}

// An Engine is a Builder that can be asked for more. *builder.Engine is one.
type Engine interface {
	Builder
	fingerprint.Builder
	// Check refuses what the engine cannot do for an image.
	Check(img plan.Image, warn func(string)) error
	Close()
}

// limited builds at most so many images at once.
type limited struct {
	Builder
	running chan struct{}
}

// limit gives b itself for 0.
func limit(b Builder, n int) Builder {
	if n <= 0 {
		return b
	}
	return limited{b, make(chan struct{}, n)}
}

func (l limited) Build(ctx context.Context, j builder.Job) (*image.Artifact, error) {
	select {
	case l.running <- struct{}{}:
		defer func() { <-l.running }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return l.Builder.Build(ctx, j)
}

// reported says what becomes of each image that is built.
type reported struct {
	Builder
	progress Progress
}

func (r reported) Build(ctx context.Context, j builder.Job) (*image.Artifact, error) {
	name := j.Image.Name()
	a, err := r.Builder.Build(ctx, j)
	switch {
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
		r.progress.Image(name, report.Done, "built, and its layers are in "+j.Image.Repository)
	}
	return a, wrap(j.Image, err)
}
