// Package pipeline carries a Plan through: credentials and engine side by
// side, all builds at once, layers on their way as they appear, and, only when
// every image is whole, the tags and then the definitions.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// Deps is what a run needs from outside.
type Deps struct {
	// Credentials fetches what the plan names; it is called once.
	Backends func(ctx context.Context) (*Backends, error)
	// Engine connects to an engine; the run closes it.
	Engine func(ctx context.Context) (Engine, error)
	// Checks run beside the two above; nothing is built when one fails.
	Checks []func(ctx context.Context) error
	// Beside runs while images are built, and stops them when it fails; nil for nothing.
	Background func(ctx context.Context, c *Backends) error
	Progress   Progress
}

// Engine builds images; *engine.Engine is one.
type Engine interface {
	Check(img plan.Image, warn func(string)) error
	Build(ctx context.Context, r builder.Request, sink image.Store) (*image.Artifact, error)
	BuildLocal(ctx context.Context, r builder.Request) error
	ShareSessions(images []plan.Image) *builder.SharedSessions
	fingerprint.Builder
	Close()
}

// Progress hears what happens.
type Progress interface {
	Note(image string, severity progress.Severity, text string)
	Status(image string, s *progress.BuildStatus)
	Image(image, state, text string)
	Begin(image, kind, name string, size int64) *progress.Span
}

// Options of a run.
type Options struct {
	Jobs int // how many images at once, 0 for all

	dry bool // nothing is pushed
	Pin bool // definitions name digests and not tags
}

// Pushed is an image in the registry.
type Pushed struct {
	Image plan.Image
	Host  string
	Built *image.Artifact
}

// URI is what a task definition writes: by tag, or by digest.
func (p Pushed) URI(pin bool) string {
	if pin {
		return fmt.Sprintf("%s/%s@%s", p.Host, p.Image.Repository, p.Built.Root().Digest)
	}
	return imageNames(p.Host, p.Image)[0]
}

// ImageError says which image an error belongs to.
type ImageError struct {
	Image plan.Image
	Err   error
}

func (e *ImageError) Error() string { return e.Image.Name() + ": " + e.Err.Error() }
func (e *ImageError) Unwrap() error { return e.Err }

// Run does the whole job. The first failure stops what still runs and is the
// error that comes back; the caller takes the files away then. No tag has moved, unless the error is a *TagsError or a *artifact.Error:
// with the latter come the images, all of which are in the registry.
func Run(ctx context.Context, p *plan.Plan, d Deps, o Options) ([]Pushed, error) {
	creds, eng, pushed, err := begin(ctx, p, d, o)
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	states, stop := readTagStates(ctx, creds, p.Images)
	defer stop()
	defer creds.State.Save()
	if err := build(ctx, p, d, o, creds, eng, pushed); err != nil {
		return nil, err
	}
	span := d.Progress.Begin("", report.Tags, "tags", 0)
	stopTelling := context.AfterFunc(ctx, func() {
		d.Progress.Note("", progress.Info, "tags are moving: the run ends when all have; a second signal ends it at once, with some of them moved")
	})
	err = tag(ctx, creds, pushed, states())
	stopTelling()
	span.End(err)
	if err != nil {
		return nil, err
	}
	return pushed, writeDefinitions(p, pushed, o.Pin)
}

// begin has everything in hand that a build needs. The engine is the caller's
// to close, unless there is an error.
func begin(ctx context.Context, p *plan.Plan, d Deps, o Options) (*Backends, Engine, []Pushed, error) {
	span := d.Progress.Begin("", report.Prepare, "credentials, engine and checks", 0)
	creds, eng, err := prepare(ctx, p, d, o)
	span.End(err)
	var pushed []Pushed
	if err == nil {
		for _, img := range p.Images {
			pushed = append(pushed, Pushed{Image: img, Host: creds.Registry.Host.Name})
		}
		err = checkSize(p, pushed, o.Pin)
	}
	if err != nil && eng != nil {
		eng.Close()
	}
	return creds, eng, pushed, err
}

// prepare asks for everything at once; nothing is built before all of it is
// there. What is wrong comes back together, and not one mistake a run.
func prepare(ctx context.Context, p *plan.Plan, d Deps, o Options) (creds *Backends, eng Engine, err error) {
	var wg sync.WaitGroup
	errs := make([]error, 2+len(d.Checks))
	wg.Go(func() {
		if creds, errs[0] = d.Backends(ctx); errs[0] == nil {
			errs[0] = probe(ctx, p, creds)
		}
	})
	wg.Go(func() {
		e, err := d.Engine(ctx)
		if errs[1] = err; err == nil {
			eng = e
			errs[1] = checkImages(p, d, o, e)
		}
	})
	for i, check := range d.Checks {
		wg.Go(func() { errs[2+i] = check(ctx) })
	}
	wg.Wait()
	return creds, eng, errors.Join(errs...)
}

// checkImages asks the engine whether it can do what each image asks for.
func checkImages(p *plan.Plan, d Deps, o Options, eng Engine) error {
	var errs []error
	for _, img := range p.Images {
		if o.dry {
			img = builder.WithoutExports(img)
		}
		errs = append(errs, eng.Check(img, func(text string) { d.Progress.Note(img.Name(), progress.Warning, text) }))
	}
	return errors.Join(errs...)
}

// probe asks each repository once for what a push needs first, makes the ones
// that are missing and shall be made, and looks for tags that must be free.
func probe(ctx context.Context, p *plan.Plan, c *Backends) error {
	if c.CreateRepository == nil {
		return nil // the registry is on this machine
	}
	var wg sync.WaitGroup
	errs := make([]error, 2*len(p.Images))
	seen := map[string]bool{}
	for i, img := range p.Images {
		if img.OnImmutable == plan.FailTaken {
			wg.Go(func() { errs[2*i] = wrap(img, c.CheckTagsFree(ctx, img)) })
		}
		if seen[img.Repository] {
			continue
		}
		seen[img.Repository] = true
		wg.Go(func() {
			err := c.Registry.Repository(img.Repository).Probe(ctx)
			if img.Create != nil && registry.IsMissing(err) {
				err = c.CreateRepository(ctx, img)
			}
			errs[2*i+1] = wrap(img, err)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// beside starts what runs beside the builds: its failure ends their context,
// and nothing waits for its success.
func background(ctx context.Context, d Deps, creds *Backends) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if d.Background == nil {
			return
		}
		if err := d.Background(ctx, creds); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// build runs all builds at once. Their layers are in the registry when it
// returns, and no manifest.
func build(ctx context.Context, p *plan.Plan, d Deps, o Options, creds *Backends, eng Engine, pushed []Pushed) error {
	contexts := eng.ShareSessions(p.Images)
	defer contexts.Close()
	defer creds.Bases.Close()
	defer creds.State.Save()
	ctx, stop := background(ctx, d, creds)
	defer stop()
	old := &reuse{creds: creds, hasher: fingerprint.NewHasher(eng, creds.Bases.Resolve), progress: d.Progress}
	g, ctx := errgroup.WithContext(ctx)
	if o.Jobs > 0 {
		g.SetLimit(o.Jobs)
	}
	for i, img := range p.Images {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r := request(p, d, creds, contexts, img)
			if img.Reuse {
				if pushed[i].Built, r.Inputs = old.find(ctx, img); pushed[i].Built != nil {
					return nil
				}
				// No cache says how old it is, of this engine or in a registry.
				r.Image.Build.NoCache = img.MaxAge > 0
			}
			built, err := eng.Build(ctx, r, creds.Registry.Repository(img.Repository))
			if err != nil {
				failed(ctx, d.Progress, img, err)
				return &ImageError{Image: img, Err: err}
			}
			pushed[i].Built = built
			if r.Inputs != nil && r.Inputs.Verify(ctx) {
				old.keep(img, r.Inputs, built)
			}
			d.Progress.Image(img.Name(), report.Done, "built, and its layers are in "+img.Repository)
			return nil
		})
	}
	return g.Wait()
}

// failed says which image failed, and which ones were stopped for it.
func failed(ctx context.Context, p Progress, img plan.Image, err error) {
	if ctx.Err() != nil {
		p.Image(img.Name(), report.Stopped, "")
		return
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	var b *builder.BuildError
	if errors.As(err, &b) && b.Step != "" {
		text = b.Step
	}
	p.Image(img.Name(), report.Failed, text)
}

func imageNames(host string, img plan.Image) (names []string) {
	for _, t := range img.Tags {
		name := img.Repository + ":" + t
		if host != "" {
			name = host + "/" + name
		}
		names = append(names, name)
	}
	return names
}

func wrap(img plan.Image, err error) error {
	if err == nil {
		return nil
	}
	return &ImageError{Image: img, Err: err}
}
