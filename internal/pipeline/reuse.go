package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/engine"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// reuse finds the images of a run that need not be built: one that was made of
// the same inputs is in their repository. Every doubt builds.
type reuse struct {
	creds    *Credentials
	hasher   *engine.Hasher
	progress Progress
	refused  sync.Once // one line a run says that the registry may not be read
}

// kept is an image in the record, by its repository and what it was made of.
type kept struct {
	Built     time.Time         `json:"built"`
	Since     time.Time         `json:"since"` // as its engine.Stamp has it
	Manifests []engine.Manifest `json:"manifests"`
}

// The kinds of the record: images by what they were made of, and since when the
// last one of a name is built with the cache.
const (
	recordImages = "images"
	recordSince  = "since"
)

func (r *reuse) repository(img plan.Image) string {
	return r.creds.Registry.Host.Name + "/" + img.Repository
}

func (r *reuse) key(img plan.Image, in *engine.Inputs) string {
	return r.repository(img) + " " + in.Hash
}

// An answer is what reuse says of an image.
type answer struct {
	built  *engine.Built  // that is there, nil for none
	inputs *engine.Inputs // what a new one is made of, nil where that cannot be known
	since  time.Time      // for its engine.Stamp
	anew   bool           // to be built without the cache, which may hold what is older than the image may be
}

func (r *reuse) sinceKey(img plan.Image) string { return r.repository(img) + " " + img.Name() }

// find asks whether an image is there that was made of the same.
func (r *reuse) find(ctx context.Context, img plan.Image) (a answer) {
	span := r.progress.Begin(img.Name(), progress.Look, "looks whether it has changed", 0)
	defer span.End(nil)
	var known kept
	in, err := r.hasher.Of(ctx, img)
	if err == nil {
		a.inputs = in
		if !r.creds.Record.Get(recordImages, r.key(img, in), &known) || !young(img, known.Since) || !r.whole(ctx, img, known.Manifests) {
			known = r.look(ctx, img, in)
		}
	} else if ctx.Err() == nil {
		r.progress.Note(img.Name(), "reuse: is built in any case, since "+err.Error())
	}
	if known.Manifests == nil {
		a.since, a.anew = r.age(img, known.Since)
		if in != nil {
			in.Since = a.since
		}
		return a
	}
	r.creds.Record.Put(recordImages, r.key(img, in), known)
	text := "not built: what it is made of has not changed"
	if known.Built.Unix() > 0 { // a reproducible image does not say
		text += " since " + known.Built.Format("2006-01-02 15:04 MST")
	}
	r.progress.Image(img.Name(), progress.Reused, text)
	a.built = &engine.Built{Manifests: known.Manifests}
	return a
}

// age bounds how old what comes from a cache may be: once within max_age an
// image is built without it.
func (r *reuse) age(img plan.Image, since time.Time) (_ time.Time, anew bool) {
	now := time.Now().UTC()
	var last time.Time
	if r.creds.Record.Get(recordSince, r.sinceKey(img), &last) && last.After(since) {
		since = last
	}
	switch {
	case young(img, since):
		return since, false
	case since.IsZero():
		r.progress.Note(img.Name(), "max_age: is built without the cache, since nothing here says how old that is")
	default:
		r.progress.Note(img.Name(), "max_age: is built without the cache, which was last done at "+since.Format("2006-01-02 15:04 MST"))
	}
	return now, true
}

// keep remembers how an image was built, and what of.
func (r *reuse) keep(img plan.Image, a answer, b *engine.Built) {
	r.creds.Record.Put(recordSince, r.sinceKey(img), a.since)
	if a.inputs != nil && a.inputs.Held() {
		r.creds.Record.Put(recordImages, r.key(img, a.inputs), kept{time.Now().UTC(), a.since, b.Manifests})
	}
}

// young says whether an image may be used that was last built without a cache
// at that time.
func young(img plan.Image, since time.Time) bool {
	return img.MaxAge == 0 || !since.IsZero() && time.Since(since) <= time.Duration(img.MaxAge)*time.Second
}

// contents is what a manifest or index names.
type contents struct {
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

// whole asks whether every blob of an image is still in the repository.
func (r *reuse) whole(ctx context.Context, img plan.Image, manifests []engine.Manifest) bool {
	repo := r.creds.Registry.Repository(img.Repository)
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range manifests {
		var c contents
		if digest.FromBytes(m.Data) != m.Digest || json.Unmarshal(m.Data, &c) != nil {
			return false
		}
		blobs := c.Layers
		if c.Config.Digest != "" {
			blobs = append(blobs, c.Config)
		}
		for _, b := range blobs {
			g.Go(func() error {
				_, ok, err := repo.Has(ctx, b.Digest)
				if err == nil && !ok {
					err = errors.New("gone")
				}
				return err
			})
		}
	}
	return g.Wait() == nil && len(manifests) > 0
}

// look asks the image that a tag points at what it was made of, where the role
// may: on a host that has no record. Where it is another one, it tells its age.
func (r *reuse) look(ctx context.Context, img plan.Image, in *engine.Inputs) (found kept) {
	repo := r.creds.Registry.Repository(img.Repository)
	for _, tag := range img.Tags {
		manifests, configs, err := fetch(ctx, repo, tag)
		var e *registry.Error
		if errors.As(err, &e) && (e.Status() == http.StatusForbidden || e.Status() == http.StatusUnauthorized) {
			r.refused.Do(func() {
				r.progress.Note("", fmt.Sprintf("reuse: %s was refused, so that only what this host remembers is reused", e.Action))
			})
			return found
		}
		if err != nil || len(configs) == 0 {
			continue
		}
		stamp, created, ok := stamped(configs)
		if !ok {
			continue
		}
		if stamp.Hash == in.Hash && young(img, stamp.Since) {
			return kept{created, stamp.Since, manifests}
		}
		if stamp.Since.After(found.Since) {
			found.Since = stamp.Since
		}
	}
	return found
}

// stamped reads the stamp that all images of an index have: one an image.
func stamped(configs [][]byte) (s engine.Stamp, created time.Time, ok bool) {
	for i, config := range configs {
		one, ok := engine.ReadStamp(config)
		if !ok || i > 0 && one != s {
			return s, created, false
		}
		s = one
		var c struct{ Created time.Time }
		if json.Unmarshal(config, &c) == nil {
			created = c.Created
		}
	}
	return s, created, len(configs) > 0
}

// fetch reads an image's manifests, those that an index names first, and their
// configs; none where the tag is not there.
func fetch(ctx context.Context, repo *registry.Repository, reference string) (manifests []engine.Manifest, configs [][]byte, err error) {
	mediaType, data, ok, err := repo.Manifest(ctx, reference)
	if err != nil || !ok {
		return nil, nil, err
	}
	var c contents
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, nil, err
	}
	for _, child := range c.Manifests {
		below, cfgs, err := fetch(ctx, repo, child.Digest.String())
		if err != nil || cfgs == nil {
			return nil, nil, err
		}
		manifests, configs = append(manifests, below...), append(configs, cfgs...)
	}
	if c.Config.Digest != "" {
		config, err := repo.Blob(ctx, c.Config.Digest)
		if err != nil {
			return nil, nil, err
		}
		configs = append(configs, config)
	}
	return append(manifests, engine.Manifest{MediaType: mediaType, Digest: digest.FromBytes(data), Data: data}), configs, nil
}
