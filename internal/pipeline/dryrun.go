package pipeline

import (
	"context"
	"path/filepath"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// DryRun builds every image, tags it in the engine, and gives the content of
// each definitions file that a run would write. It writes none.
func DryRun(ctx context.Context, p *plan.Plan, d Deps, o Options) ([][]byte, error) {
	o.dry = true
	r, err := prepare(ctx, p, d, o)
	if err != nil {
		return nil, err
	}
	defer r.engine.Close()
	images, err := r.buildAll(ctx, reported{joining{r.engine, r}, d.Progress})
	if err != nil {
		return nil, err
	}
	if err := r.runGates(ctx, images); err != nil {
		return nil, err
	}
	for _, def := range p.Definitions {
		if def.Format == plan.ImageDetail {
			d.Progress.Note("", progress.Info, filepath.Base(def.File)+
				" names the image by its tag here: it has no digest before it is in a registry")
		}
	}
	return definitions(p, images, false)
}
