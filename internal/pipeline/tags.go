package pipeline

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/plan"
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

// A move is one tag that will point at an image of the run.
type move struct {
	pushed Pushed
	tag    string
}

func (m move) name() string { return m.pushed.Image.Repository + ":" + m.tag }

// hintImmutable is the kind of hint for repositories that have refused to
// have a tag moved.
const hintImmutable = "immutable"

// phases orders tags so that a refusal leaves as few of them moved as possible: each
// phase begins when the one before has ended. First those that are most likely to be refused,
// in repositories that are known to be immutable; then one that will move, where
// nobody knows whether it may; then the tags that are deployed, and the further ones,
// such as latest, last.
func phases(pushed []Pushed, states map[string]registry.TagState, known func(repository string) bool) [][]move {
	var immutable, canary, first, further []move
	for _, p := range pushed {
		for i, tag := range p.Image.Tags {
			m := move{p, tag}
			state := states[m.name()]
			switch {
			case i == 0 && (state.Immutable || p.Image.Create != nil && p.Image.Create.IsImmutable(tag) || known(p.Image.Repository)):
				immutable = append(immutable, m)
			case i == 0 && len(canary) == 0 && state.Digest != "" && state.Digest != p.Artifact.Root().Digest:
				canary = append(canary, m)
			case i == 0:
				first = append(first, m)
			default:
				further = append(further, m)
			}
		}
	}
	return [][]move{immutable, canary, first, further}
}

// refusedTags finds the tags that are known to be refused, before any of them moves.
func refusedTags(pushed []Pushed, states map[string]registry.TagState) error {
	var errs []error
	for _, p := range pushed {
		for _, tag := range p.Image.Tags {
			state := states[p.Image.Repository+":"+tag]
			if state.Immutable && state.Digest != "" && state.Digest != p.Artifact.Root().Digest {
				errs = append(errs, wrap(p.Image, &registry.TagTakenError{Repository: p.Image.Repository, Tag: tag,
					Digest: state.Digest.String(), Why: "its repository is immutable"}))
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	errs[0] = &TagsError{Err: errs[0]}
	return errors.Join(errs...)
}

// moveTags moves the tags, now that every image is whole. It ends what it has begun:
// a signal or a failure half way would leave some tags moved without a word. put says that
// all manifests were put by their digests before.
func moveTags(ctx context.Context, b *Backends, pushed []Pushed, states map[string]registry.TagState, put bool) error {
	if err := refusedTags(pushed, states); err != nil {
		return err
	}
	c := b.Registry
	ctx = context.WithoutCancel(ctx)
	if !put {
		if err := putUntagged(ctx, c, pushed); err != nil {
			return err
		}
	}
	key := func(repository string) string { return c.Host.Name + "/" + repository }
	known := func(repository string) (yes bool) {
		return b.State.Get(hintImmutable, key(repository), &yes) && yes
	}
	var moved []string
	for _, phase := range phases(pushed, states, known) {
		errs := make([]error, len(phase))
		var wg sync.WaitGroup
		for i, m := range phase {
			wg.Go(func() {
				root := m.pushed.Artifact.Root()
				errs[i] = c.Repository(m.pushed.Image.Repository).PutManifest(ctx, m.tag, root.MediaType, root.Data)
				var refused *registry.Error
				if errors.As(errs[i], &refused) && refused.IsImmutable() {
					b.State.Put(hintImmutable, key(m.pushed.Image.Repository), true)
				}
			})
		}
		wg.Wait()
		var failed []error
		for i, m := range phase {
			if errs[i] == nil {
				moved = append(moved, m.name())
			} else {
				failed = append(failed, wrap(m.pushed.Image, errs[i]))
			}
		}
		if len(failed) > 0 {
			slices.Sort(moved)
			failed[0] = &TagsError{Moved: moved, Err: failed[0]}
			return errors.Join(failed...)
		}
	}
	return nil
}

// How long tags wait for a registry that does not say what they point at: it had the time of the
// builds before, but not where the images were built elsewhere.
var (
	tagStatePatience      = 3 * time.Second
	mergeTagStatePatience = 30 * time.Second
)

// readTagStates asks what the tags point at, beside all else; wait gives the answer when tags are to
// move, nil for none. With one tag there is nothing to be half moved.
func readTagStates(ctx context.Context, b *Backends, images []plan.Image, patience time.Duration) (
	wait func() map[string]registry.TagState, stop func()) {
	tags := 0
	for _, img := range images {
		tags += len(img.Tags)
	}
	if tags < 2 || b.ECR == nil {
		return func() map[string]registry.TagState { return nil }, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var states map[string]registry.TagState
	go func() {
		defer close(done)
		states = b.ECR.TagStates(ctx, images)
	}()
	wait = func() map[string]registry.TagState {
		select {
		case <-done:
			return states
		case <-time.After(patience):
			return nil
		}
	}
	return wait, func() { cancel(); <-done }
}

// putUntagged puts what an index names, and, where several tags move and
// ECR's quota allows it, every manifest by its digest: so a missing permission or
// layer shows while no tag has moved.
func putUntagged(ctx context.Context, c *registry.Client, pushed []Pushed) error {
	tags := 0
	for _, p := range pushed {
		tags += len(p.Image.Tags)
	}
	return putManifests(ctx, c, pushed, tags > 1 && tags+len(pushed) <= registry.PutsPerSecond)
}

// putManifests puts manifests by their digests: those that an index names, and then, where roots
// says so, what a tag will point at.
func putManifests(ctx context.Context, c *registry.Client, pushed []Pushed, roots bool) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range pushed {
		g.Go(func() error {
			for i, m := range p.Artifact.Manifests {
				if i == len(p.Artifact.Manifests)-1 && !roots {
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
