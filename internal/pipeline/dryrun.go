package pipeline

import (
	"context"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// DryRun builds every image, tags it in the engine, and gives the content of
// each definitions file that a run would write. It writes none.
func DryRun(ctx context.Context, p *plan.Plan, d Deps, o Options) ([][]byte, error) {
	o.dry = true
	creds, eng, pushed, err := begin(ctx, p, d, o)
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	contexts := eng.ShareSessions(p.Images)
	defer contexts.Close()
	g, gctx := errgroup.WithContext(ctx)
	if o.Jobs > 0 {
		g.SetLimit(o.Jobs)
	}
	for _, img := range p.Images {
		g.Go(func() error {
			err := eng.BuildLocal(gctx, request(p, d, creds, contexts, img))
			if err != nil {
				failed(gctx, d.Progress, img, err)
			} else {
				d.Progress.Image(img.Name(), report.Done, "built")
			}
			return wrap(img, err)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, def := range p.Definitions {
		if def.Format == plan.ImageDetail {
			d.Progress.Note("", progress.Info, filepath.Base(def.File)+" names the image by its tag here: it has no digest before it is in a registry")
		}
	}
	return Definitions(p, pushed, false)
}

// request is what the engine needs to build one image.
func request(p *plan.Plan, d Deps, creds *Backends, contexts *builder.SharedSessions, img plan.Image) builder.Request {
	name := img.Name()
	var outputs []string
	for _, def := range p.Definitions {
		if target, err := artifact.Target(def.File); err == nil {
			outputs = append(outputs, target)
		}
	}
	return builder.Request{
		Outputs: outputs,
		Image:   img, Login: creds.Login, Masked: creds.Masked, Secrets: creds.Secrets(img), Sessions: contexts,
		Names:  imageNames(creds.Registry.Host.Name, img),
		Status: func(s *progress.BuildStatus) { d.Progress.Status(name, s) },
		Note:   func(severity progress.Severity, text string) { d.Progress.Note(name, severity, text) },
		Begin:  func(kind, what string) *progress.Span { return d.Progress.Begin(name, kind, what, 0) },
		Bases:  creds.Bases, State: creds.State,
	}
}
