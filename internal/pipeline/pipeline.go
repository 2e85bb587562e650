// Package pipeline carries a Plan through: credentials and engine side by
// side, all builds at once, layers on their way as they appear, and, only when
// every image is whole, the tags and then the definitions.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/engine"
	"github.com/ecsbuild/ecsbuild/internal/imagedef"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// Deps is what a run needs from outside.
type Deps struct {
	// Credentials fetches what the plan names; it is called once.
	Credentials func(ctx context.Context) (*Credentials, error)
	// Engine connects to an engine; the run closes it.
	Engine func(ctx context.Context) (Engine, error)
	// Checks run beside the two above; nothing is built when one fails.
	Checks []func(ctx context.Context) error
	// Beside runs while images are built, and stops them when it fails; nil for nothing.
	Beside   func(ctx context.Context, c *Credentials) error
	Progress Progress
}

// Credentials are the answers of the parameter stores and of ECR.
type Credentials struct {
	Registry *registry.Client
	Login    engine.Login
	Secrets  func(plan.Image) map[string]plan.Secret
	Bases    *registry.Bases

	CreateRepository func(context.Context, plan.Image) error // nil where repositories come by themselves
	CheckTags        func(context.Context, plan.Image) error
}

// Engine builds images; *engine.Engine is one.
type Engine interface {
	Build(ctx context.Context, r engine.Request, sink engine.Sink) (*engine.Built, error)
	BuildLocal(ctx context.Context, r engine.Request) error
	NewContexts(images []plan.Image) *engine.Contexts
	Close()
}

// Progress hears what happens.
type Progress interface {
	Note(image, text string)
	Status(image string, s *bkclient.SolveStatus)
}

// Options of a run.
type Options struct {
	Jobs int  // how many images at once, 0 for all
	Pin  bool // definitions name digests and not tags
}

// Pushed is an image in the registry.
type Pushed struct {
	Image plan.Image
	Host  string
	Built *engine.Built
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

// DefinitionsError is a definitions file that could not be written or removed.
type DefinitionsError struct {
	File     string
	Removing bool // the file of an earlier run, before anything is built
	Err      error
}

func (e *DefinitionsError) Error() string { return e.File + ": " + e.Err.Error() }
func (e *DefinitionsError) Unwrap() error { return e.Err }

// TagsError is a tag that was refused after others of the run had moved.
type TagsError struct {
	Moved []string // "repository:tag"
	Err   error
}

func (e *TagsError) Error() string { return e.Err.Error() }
func (e *TagsError) Unwrap() error { return e.Err }

// Run does the whole job; RemoveOld has been called. The first failure stops what still runs and is the
// error that comes back; no tag has moved then and no definitions file lies
// there, unless the error is a *TagsError.
func Run(ctx context.Context, p *plan.Plan, d Deps, o Options) ([]Pushed, error) {
	creds, eng, err := prepare(ctx, p, d)
	if eng != nil {
		defer eng.Close()
	}
	if err != nil {
		return nil, err
	}
	pushed := make([]Pushed, len(p.Images))
	for i, img := range p.Images {
		pushed[i] = Pushed{Image: img, Host: creds.Registry.Host.Name}
	}
	if err := checkSize(p, pushed, o.Pin); err != nil {
		return nil, err
	}
	if err := build(ctx, p, d, o, creds, eng, pushed); err != nil {
		return nil, err
	}
	if err := tag(ctx, creds.Registry, pushed); err != nil {
		return nil, err
	}
	return pushed, writeDefinitions(p, pushed, o.Pin)
}

// RemoveOld takes the files of an earlier run away, so that a failed one
// leaves none.
func RemoveOld(p *plan.Plan) error {
	for _, d := range p.Definitions {
		if err := imagedef.Remove(d.File); err != nil {
			return &DefinitionsError{File: d.File, Removing: true, Err: err}
		}
	}
	return nil
}

// prepare asks for everything at once; nothing is built before all of it is
// there. What is wrong comes back together, and not one mistake a run.
func prepare(ctx context.Context, p *plan.Plan, d Deps) (creds *Credentials, eng Engine, err error) {
	var wg sync.WaitGroup
	errs := make([]error, 2+len(d.Checks))
	wg.Go(func() {
		if creds, errs[0] = d.Credentials(ctx); errs[0] == nil {
			errs[0] = probe(ctx, p, creds)
		}
	})
	wg.Go(func() {
		e, err := d.Engine(ctx)
		if errs[1] = err; err == nil {
			eng = e
		}
	})
	for i, check := range d.Checks {
		wg.Go(func() { errs[2+i] = check(ctx) })
	}
	wg.Wait()
	return creds, eng, errors.Join(errs...)
}

// probe asks each repository once for what a push needs first, makes the ones
// that are missing and shall be made, and looks for tags that must be free.
func probe(ctx context.Context, p *plan.Plan, c *Credentials) error {
	if c.CreateRepository == nil {
		return nil // the registry is on this machine
	}
	var wg sync.WaitGroup
	errs := make([]error, 2*len(p.Images))
	seen := map[string]bool{}
	for i, img := range p.Images {
		if img.OnImmutable == plan.FailTaken {
			wg.Go(func() { errs[2*i] = wrap(img, c.CheckTags(ctx, img)) })
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
func beside(ctx context.Context, d Deps, creds *Credentials) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if d.Beside == nil {
			return
		}
		if err := d.Beside(ctx, creds); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// build runs all builds at once. Their layers are in the registry when it
// returns, and no manifest.
func build(ctx context.Context, p *plan.Plan, d Deps, o Options, creds *Credentials, eng Engine, pushed []Pushed) error {
	contexts := eng.NewContexts(p.Images)
	defer contexts.Close()
	defer creds.Bases.Save()
	ctx, stop := beside(ctx, d, creds)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	if o.Jobs > 0 {
		g.SetLimit(o.Jobs)
	}
	for i, img := range p.Images {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			built, err := eng.Build(ctx, request(d, creds, contexts, img), creds.Registry.Repository(img.Repository))
			if err != nil {
				return &ImageError{Image: img, Err: err}
			}
			pushed[i].Built = built
			d.Progress.Note(img.Name(), "built, and its layers are in "+img.Repository)
			return nil
		})
	}
	return g.Wait()
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

// tag moves the tags, now that every image is whole. It ends what it has begun:
// a signal or a failure half way would leave some tags moved without a word.
func tag(ctx context.Context, c *registry.Client, pushed []Pushed) error {
	ctx = context.WithoutCancel(ctx)
	if err := putUntagged(ctx, c, pushed); err != nil {
		return err
	}
	var mu sync.Mutex
	var moved []string
	var errs []error
	var wg sync.WaitGroup
	for _, p := range pushed {
		for _, t := range p.Image.Tags {
			wg.Go(func() {
				m := p.Built.Root()
				err := c.Repository(p.Image.Repository).PutManifest(ctx, t, m.MediaType, m.Data)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, wrap(p.Image, err))
				} else {
					moved = append(moved, p.Image.Repository+":"+t)
				}
			})
		}
	}
	wg.Wait()
	if len(errs) > 0 && len(moved) > 0 {
		slices.Sort(moved)
		errs[0] = &TagsError{Moved: moved, Err: errs[0]}
	}
	return errors.Join(errs...)
}

// freePuts is how many manifests ECR takes in a second: putting a few more of
// them first costs no waiting.
const freePuts = 10

// putUntagged puts what an index names, and, where several tags shall move and
// it costs no waiting, every manifest by its digest: so a missing permission or
// layer shows while no tag has moved.
func putUntagged(ctx context.Context, c *registry.Client, pushed []Pushed) error {
	tags := 0
	for _, p := range pushed {
		tags += len(p.Image.Tags)
	}
	roots := tags > 1 && tags+len(pushed) <= freePuts
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range pushed {
		g.Go(func() error {
			for i, m := range p.Built.Manifests {
				if i == len(p.Built.Manifests)-1 && !roots {
					break
				}
				if err := c.Repository(p.Image.Repository).PutManifest(ctx, m.Digest.String(), m.MediaType, m.Data); err != nil {
					return wrap(p.Image, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func wrap(img plan.Image, err error) error {
	if err == nil {
		return nil
	}
	return &ImageError{Image: img, Err: err}
}

// Definitions gives the content of each file of the plan. An image-detail file
// always names the digest, as blue/green deployments want it.
func Definitions(p *plan.Plan, pushed []Pushed, pin bool) ([][]byte, error) {
	by := map[string]Pushed{}
	for _, img := range pushed {
		for _, c := range img.Image.Containers {
			by[c] = img
		}
	}
	var out [][]byte
	for _, d := range p.Definitions {
		var data []byte
		var err error
		if d.Format == plan.ImageDetail {
			data, err = imagedef.EncodeDetail(by[d.Containers[0]].URI(true))
		} else {
			var defs []imagedef.Definition
			for _, c := range d.Containers {
				defs = append(defs, imagedef.Definition{Name: c, ImageURI: by[c].URI(pin)})
			}
			data, err = imagedef.Encode(defs)
		}
		if err != nil {
			return nil, &DefinitionsError{File: d.File, Err: err}
		}
		out = append(out, data)
	}
	return out, nil
}

func writeDefinitions(p *plan.Plan, pushed []Pushed, pin bool) error {
	contents, err := Definitions(p, pushed, pin)
	if err != nil {
		return err
	}
	for i, d := range p.Definitions {
		if err := imagedef.Write(d.File, contents[i]); err != nil {
			_ = RemoveOld(p) // all of them or none
			return &DefinitionsError{File: d.File, Err: err}
		}
	}
	return nil
}

// checkSize refuses a file that will be too large before anything is built.
func checkSize(p *plan.Plan, pushed []Pushed, pin bool) error {
	const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	trial := make([]Pushed, len(pushed))
	for i, img := range pushed {
		img.Built = &engine.Built{Manifests: []engine.Manifest{{Digest: digest}}}
		trial[i] = img
	}
	var e *DefinitionsError
	if _, err := Definitions(p, trial, pin); errors.As(err, &e) {
		return &plan.Error{What: e.File + " is too large", Why: e.Err.Error()}
	}
	return nil
}
