package pipeline

import (
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// TagsError is a tag that was refused, or got no answer, when the run's tags
// were moving.
type TagsError struct {
	Moved []string // "repository:tag", those that did
	Err   error
}

func (e *TagsError) Error() string { return e.Err.Error() }

func (e *TagsError) Unwrap() error { return e.Err }

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
	if len(errs) > 0 {
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
