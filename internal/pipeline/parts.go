package pipeline

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/image"
)

// joining builds an image in its parts, at once, and makes an index of them.
type joining struct {
	Builder
	run *run
}

func (b joining) Build(ctx context.Context, j builder.Job) (*image.Artifact, error) {
	jobs := b.run.parts[j.Image.Name()]
	if len(jobs) == 0 {
		return b.Builder.Build(ctx, j)
	}
	parts := make([]image.Part, len(jobs))
	g, ctx := errgroup.WithContext(ctx)
	for i, part := range jobs {
		part.Inputs = j.Inputs
		part.Image.Build.NoCache = j.Image.Build.NoCache
		g.Go(func() (err error) {
			parts[i].Platforms = part.Image.Part
			parts[i].Artifact, err = b.Builder.Build(ctx, part)
			return err
		})
	}
	if err := g.Wait(); err != nil || j.Keep {
		return nil, err
	}
	return image.Join(parts)
}
