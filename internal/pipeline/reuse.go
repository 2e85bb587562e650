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
	Manifests []engine.Manifest `json:"manifests"`
}

// recordImages is their kind.
const recordImages = "images"

func (r *reuse) key(img plan.Image, in *engine.Inputs) string {
	return r.creds.Registry.Host.Name + "/" + img.Repository + " " + in.Hash
}

// find gives the image that is there, or nil and what a new one is made of,
// which is nil where that cannot be known.
func (r *reuse) find(ctx context.Context, img plan.Image) (*engine.Built, *engine.Inputs) {
	in, err := r.hasher.Of(ctx, img)
	if err != nil {
		if ctx.Err() == nil {
			r.progress.Note(img.Name(), "reuse: is built in any case, since "+err.Error())
		}
		return nil, nil
	}
	var known kept
	manifests, built := []engine.Manifest(nil), time.Time{}
	if r.creds.Record.Get(recordImages, r.key(img, in), &known) && young(img, known.Built) && r.whole(ctx, img, known.Manifests) {
		manifests, built = known.Manifests, known.Built
	} else if manifests, built = r.look(ctx, img, in); manifests != nil {
		r.creds.Record.Put(recordImages, r.key(img, in), kept{built, manifests})
	}
	if manifests == nil {
		return nil, in
	}
	r.progress.Image(img.Name(), progress.Reused, "not built: what it is made of has not changed since "+built.Format("2006-01-02 15:04 MST"))
	return &engine.Built{Manifests: manifests}, in
}

// keep remembers what an image was made of.
func (r *reuse) keep(img plan.Image, in *engine.Inputs, b *engine.Built) {
	r.creds.Record.Put(recordImages, r.key(img, in), kept{time.Now().UTC(), b.Manifests})
}

func young(img plan.Image, built time.Time) bool {
	return img.MaxAge == 0 || time.Since(built) <= time.Duration(img.MaxAge)*time.Second
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
// may: on a host that has no record.
func (r *reuse) look(ctx context.Context, img plan.Image, in *engine.Inputs) ([]engine.Manifest, time.Time) {
	if img.Build.Reproducible && img.MaxAge > 0 {
		return nil, time.Time{} // it does not say when it was made
	}
	repo := r.creds.Registry.Repository(img.Repository)
	for _, tag := range img.Tags {
		manifests, config, err := fetch(ctx, repo, tag)
		var e *registry.Error
		if errors.As(err, &e) && (e.Status() == http.StatusForbidden || e.Status() == http.StatusUnauthorized) {
			r.refused.Do(func() {
				r.progress.Note("", fmt.Sprintf("reuse: %s was refused, so that only what this host remembers is reused", e.Action))
			})
			return nil, time.Time{}
		}
		if err != nil || config == nil {
			continue
		}
		var c struct {
			Created time.Time `json:"created"`
			Config  struct{ Labels map[string]string }
		}
		if json.Unmarshal(config, &c) == nil && c.Config.Labels[engine.InputsLabel] == in.Hash && young(img, c.Created) {
			return manifests, c.Created
		}
	}
	return nil, time.Time{}
}

// fetch reads an image's manifests, those that an index names first, and the
// config of one of them; nil where the tag is not there.
func fetch(ctx context.Context, repo *registry.Repository, reference string) (manifests []engine.Manifest, config []byte, err error) {
	mediaType, data, ok, err := repo.Manifest(ctx, reference)
	if err != nil || !ok {
		return nil, nil, err
	}
	var c contents
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, nil, err
	}
	for _, child := range c.Manifests {
		below, cfg, err := fetch(ctx, repo, child.Digest.String())
		if err != nil || cfg == nil {
			return nil, nil, err
		}
		manifests, config = append(manifests, below...), cfg
	}
	if c.Config.Digest != "" {
		if config, err = repo.Blob(ctx, c.Config.Digest); err != nil {
			return nil, nil, err
		}
	}
	return append(manifests, engine.Manifest{MediaType: mediaType, Digest: digest.FromBytes(data), Data: data}), config, nil
}
