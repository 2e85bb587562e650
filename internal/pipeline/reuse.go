package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/fingerprint"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
	"github.com/ecsbuild/ecsbuild/internal/registry"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// reusing does not build an image that was made of the same inputs and is in its
// repository. Whatever is not known for sure is built.
type reusing struct {
	Builder
	backends *Backends
	hasher   *fingerprint.Hasher
	progress Progress
	refused  sync.Once // one line a run says that the registry may not be read
}

func (r *reusing) Build(ctx context.Context, j builder.Job) (*image.Artifact, error) {
	if !j.Image.Reuse {
		return r.Builder.Build(ctx, j)
	}
	if len(j.Image.Part) > 0 { // an index is reused as a whole
		r.progress.Note(j.Image.Name(), progress.Info,
			"reuse: building it anyway, since other jobs build its other platforms")
		j.Image.Build.NoCache = j.Image.Build.NoCache || j.Image.MaxAge > 0
		return r.Builder.Build(ctx, j)
	}
	found, inputs := r.findUnchanged(ctx, j)
	if found != nil {
		return found, nil
	}
	j.Inputs = inputs
	// No cache says how old it is, of this engine or in a registry; and where the image that is
	// there cannot be used, the same steps from a cache would be that image again.
	j.Image.Build.NoCache = j.Image.Build.NoCache || j.Image.MaxAge > 0 || inputs != nil && !inputs.Since.IsZero()
	a, err := r.Builder.Build(ctx, j)
	if err == nil && inputs != nil && inputs.Verify(ctx) {
		r.remember(j.Image, inputs, a)
	}
	return a, err
}

// rememberedImage is an image in the host state, by its repository and what it was made of.
type rememberedImage struct {
	Built     time.Time        `json:"built"`
	Since     time.Time        `json:"since"` // as its fingerprint.Label has it
	Manifests []image.Manifest `json:"manifests"`
}

// hintImages is the kind of their hints.
const hintImages = "images"

func (r *reusing) key(img plan.Image, in *fingerprint.Inputs) string {
	return r.backends.Registry.Host.Name + "/" + img.Repository + " " + in.Hash
}

// findUnchanged returns the image that is there and was made of the same, or nil, and what
// a new one is made of, which is nil where that cannot be known.
func (r *reusing) findUnchanged(ctx context.Context, j builder.Job) (*image.Artifact, *fingerprint.Inputs) {
	img := j.Image
	span := r.progress.Begin(img.Name(), report.Look, "checks whether it has changed", 0)
	defer span.End(nil)
	in, err := r.hasher.Of(ctx, img, j.Dockerfile)
	if err != nil {
		if ctx.Err() == nil {
			r.progress.Note(img.Name(), progress.Info, "reuse: building it anyway, since "+err.Error())
		}
		return nil, nil
	}
	var known rememberedImage
	if !r.backends.State.Get(hintImages, r.key(img, in), &known) || !fresh(img, known.Since) ||
		!r.complete(ctx, img, known.Manifests) {
		known = r.findByLabel(ctx, img, in)
	}
	full := known.Manifests != nil && r.full(ctx, img, known.Manifests)
	if known.Manifests == nil || full {
		if img.MaxAge > 0 || full {
			in.Since = time.Now().UTC()
		}
		return nil, in
	}
	r.backends.State.Put(hintImages, r.key(img, in), known)
	text := "not built: what it is made of has not changed"
	if known.Built.Unix() > 0 { // a reproducible image does not say
		text += " since " + known.Built.Format("2006-01-02 15:04 MST")
	}
	r.progress.Image(img.Name(), report.Reused, text)
	return &image.Artifact{Manifests: known.Manifests}, in
}

// remember writes down what an image was made of.
func (r *reusing) remember(img plan.Image, in *fingerprint.Inputs, b *image.Artifact) {
	r.backends.State.Put(hintImages, r.key(img, in), rememberedImage{time.Now().UTC(), in.Since, b.Manifests})
}

// fresh says whether an image may be used that was built without a cache at that
// time; the zero time is none. The clocks of two hosts may differ a little.
func fresh(img plan.Image, since time.Time) bool {
	passed := time.Since(since)
	return img.MaxAge == 0 || !since.IsZero() && passed > -time.Hour && passed <= time.Duration(img.MaxAge)*time.Second
}

// complete asks whether every blob of an image is still in the repository, and, where the
// role may, whether the image can be pulled: one that is archived cannot.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/archive_restore_image.html
func (r *reusing) complete(ctx context.Context, img plan.Image, manifests []image.Manifest) bool {
	repo := r.backends.Registry.Repository(img.Repository)
	for _, m := range manifests {
		if !m.Whole(ctx, repo) {
			return false
		}
	}
	if len(manifests) == 0 {
		return false
	}
	root := manifests[len(manifests)-1].Digest
	d, err := repo.TagDigest(ctx, root.String())
	var e *registry.Error
	return err == nil && d == root || errors.As(err, &e) && e.IsRefused()
}

// maxTags is where an image gets no more tags, a little below what ECR allows: 1,000.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
const maxTags = 900

// full says whether an image has about as many tags as it can have, where the role may know.
func (r *reusing) full(ctx context.Context, img plan.Image, manifests []image.Manifest) bool {
	if r.backends.ECR == nil {
		return false
	}
	n := r.backends.ECR.TagCount(ctx, img, manifests[len(manifests)-1].Digest)
	if n >= maxTags {
		r.progress.Note(img.Name(), progress.Info, fmt.Sprintf(
			"reuse: building it anyway, since the image that is there has %d tags, and ECR allows it 1,000", n))
	}
	return n >= maxTags
}

// findByLabel asks the image that a tag points at what it was made of, where the role
// may: on a host that remembers nothing.
func (r *reusing) findByLabel(ctx context.Context, img plan.Image, in *fingerprint.Inputs) rememberedImage {
	repo := r.backends.Registry.Repository(img.Repository)
	for _, tag := range img.Tags {
		manifests, configs, err := fetch(ctx, repo, tag)
		var e *registry.Error
		if errors.As(err, &e) && e.IsRefused() {
			r.refused.Do(func() {
				r.progress.Note("", progress.Info, fmt.Sprintf("reuse: %s was refused, so only what this host remembers is reused",
					e.Action))
			})
			return rememberedImage{}
		}
		if err != nil || len(configs) == 0 {
			continue
		}
		if label, created, ok := readLabels(configs); ok && label.Hash == in.Hash && fresh(img, label.Since) {
			return rememberedImage{created, label.Since, manifests}
		}
	}
	return rememberedImage{}
}

// readLabels reads the label that all images of an index have.
func readLabels(configs [][]byte) (s fingerprint.Label, created time.Time, ok bool) {
	for i, config := range configs {
		one, ok := fingerprint.ReadLabel(config)
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
func fetch(ctx context.Context, repo *registry.Repository, reference string) (manifests []image.Manifest,
	configs [][]byte, err error) {
	mediaType, data, ok, err := repo.Manifest(ctx, reference)
	if err != nil || !ok {
		return nil, nil, err
	}
	var c image.Contents
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
	return append(manifests, image.Manifest{MediaType: mediaType, Digest: digest.FromBytes(data),
		Data: data}), configs, nil
}
