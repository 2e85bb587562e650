// Package fingerprint finds out whether an image was already built of the same inputs.
//
// A Hasher hashes all that goes into an image. Inputs then watch the build: whether it
// took the base images that were hashed, and, at its end, whether the files are still the
// same. Only then does the image get the label, by which the next run knows it.
package fingerprint

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Inputs are all that an image is made of, as one hash. A nil *Inputs is of an image
// that nobody may reuse.
type Inputs struct {
	Hash  string    // 64 hexadecimal digits
	Since time.Time // what the image's Label will say; the caller sets it

	bases    map[string]string // the base images that went in: name to digest
	pinned   []string          // those whose digest the Dockerfile names
	builder  Builder
	times    *ContentTimes
	timeless bool // a reproducible image says nothing that differs from build to build

	mismatch   atomic.Bool    // the build took something else
	observed   sync.WaitGroup // questions to the engine that Observe has begun
	background sync.WaitGroup // VerifyInBackground
	rehash     func(context.Context) bool
	once       sync.Once
	same       bool // what rehash said
}

// Observe is told of a step of the build that takes an image, "" for none, or fetches
// something else, and compares it with what was hashed: a tag may move meanwhile, an
// engine may have another image of that name, and a base image may bring
// instructions of its own. Wait must follow.
func (in *Inputs) Observe(ctx context.Context, image string, fetches bool) {
	if in == nil {
		return
	}
	if fetches {
		in.mismatch.Store(true)
	}
	if image == "" || slices.Contains(in.pinned, image) {
		return
	}
	ref, digest, named := strings.Cut(image, "@")
	if name, err := reference.ParseNormalizedNamed(ref); err == nil {
		ref = reference.TagNameOnly(name).String() // 20.10 leaves latest out
	}
	want := in.bases[ref]
	switch {
	case want == "", named && digest != want:
		in.mismatch.Store(true)
	case !named: // the engine's answer takes time, in which BuildKit's news go on
		in.observed.Go(func() {
			if !slices.Contains(in.builder.LocalDigests(ctx, ref), want) {
				in.mismatch.Store(true)
			}
		})
	}
}

// Wait ends when nothing that Observe or VerifyInBackground has begun runs any more.
func (in *Inputs) Wait() {
	if in != nil {
		in.background.Wait()
		in.observed.Wait()
	}
}

// ContentTimes are those of the files that were hashed; nil for none.
func (in *Inputs) ContentTimes() *ContentTimes {
	if in == nil {
		return nil
	}
	return in.times
}

// Verify says, when the build is over, whether it took what was hashed: these base
// images, and files that have not changed since. It waits for what Observe has begun.
func (in *Inputs) Verify(ctx context.Context) bool {
	in.observed.Wait()
	if in.mismatch.Load() {
		return false
	}
	in.once.Do(func() { in.same = in.rehash(ctx) })
	return in.same && !in.mismatch.Load()
}

// VerifyInBackground starts Verify early, so that its result is ready when the push
// ends. Wait must follow.
func (in *Inputs) VerifyInBackground(ctx context.Context) {
	if in != nil {
		in.background.Go(func() { in.Verify(ctx) })
	}
}

// Pin names the image of a context by the digest that was hashed.
func (in *Inputs) Pin(where string) string {
	image, ok := strings.CutPrefix(where, "docker-image://")
	if in == nil || !ok {
		return where
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return where
	}
	named = reference.TagNameOnly(named)
	if d, ok := in.bases[named.String()]; ok {
		return "docker-image://" + named.String() + "@" + d
	}
	return where
}

// resolve returns the digests that were hashed.
func (in *Inputs) resolve(_ context.Context, ref string) (digest.Digest, error) {
	return digest.Digest(in.bases[ref]), nil
}
