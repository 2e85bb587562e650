package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/localregistry"
	"github.com/ecsbuild/ecsbuild/internal/pipeline"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// awsDeps are those of a run with AWS.
func (r *execution) awsDeps() pipeline.Deps {
	deps := r.deps(r.credentials.FromAWS)
	deps.Checks = []func(context.Context) error{func(ctx context.Context) error {
		return pipeline.CheckServices(ctx,
			r.credentials.AWS, r.plan)
	}}
	deps.Background = func(ctx context.Context, b *pipeline.Backends, files dockerfile.Files) error {
		hub, err := pipeline.CheckHub(ctx, r.plan, files, b, r.credentials.Agent)
		if hub.Warning && ctx.Err() == nil {
			r.display.Note("", progress.Warning, hub.Text)
		}
		return err
	}
	return deps
}

// push is the real thing.
func (r *execution) push() error {
	return r.results(pipeline.Run(r.app.ctx, r.plan, r.awsDeps(), r.options()))
}

// local does the same against a registry on loopback.
func (r *execution) local() error {
	addr, stop, err := localregistry.New(localFolder(r.plan.Directory)).Serve(r.app.ctx)
	if err != nil {
		return fmt.Errorf("the local registry cannot start: %w", err)
	}
	defer stop()
	creds := func(ctx context.Context) (*pipeline.Backends, error) {
		return r.credentials.WithoutAWS(ctx, registry.Host{Name: addr, Plain: true})
	}
	result, err := pipeline.Run(r.app.ctx, r.plan, r.deps(creds), r.options())
	if err == nil {
		r.display.Note("", progress.Info, "the images are kept in "+localFolder(r.plan.Directory)+
			"; ecsbuild serve lets docker pull them")
	}
	return r.results(result, err)
}

func localFolder(dir string) string { return filepath.Join(dir, ".ecsbuild") }

// dry builds and tags with the local engine, and prints what would be written.
func (r *execution) dry() error {
	host := registry.DefaultHost(r.plan.Account, r.plan.Region)
	if r.plan.Public {
		host = registry.PublicHost()
	}
	if host.Name == "" {
		r.display.Note("", progress.Info, "account or region is unknown here, so images are named without their registry")
	}
	if r.cmd.Pin == "digest" {
		return &fault.Error{What: "--pin digest cannot go with --dry-run",
			Why: "an image has no digest before it is in a registry", Fix: "leave one of them out, or use --local"}
	}
	if r.plan.Builder != plan.BuilderBuildKit {
		r.plan.Builder = plan.BuilderDocker // where people look for the images
	}
	deps := r.deps(func(ctx context.Context) (*pipeline.Backends, error) { return r.credentials.WithoutAWS(ctx, host) })
	contents, err := pipeline.DryRun(r.app.ctx, r.plan, deps, r.options())
	if err != nil {
		return err
	}
	for _, data := range contents {
		r.out.Write(data)
	}
	return nil
}
