// Package fingerprint finds out whether an image was already built of the same inputs: a hash of all that goes into it, which the image carries as a label.
package fingerprint

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Inputs are all that an image is made of, as one hash.
type Inputs struct {
	Hash  string    // 64 hexadecimal digits
	Since time.Time // what the image's Stamp shall say; the caller sets it

	bases    map[string]string // the base images that went in: name to digest
	pinned   []string          // those whose digest the Dockerfile names
	local    func(ref string) []string
	times    *ContentTimes
	mismatch atomic.Bool

	timeless bool        // a reproducible image says nothing that differs from build to build
	rehash   func() bool // hashes once more, when the build is over; the first answer counts
}

// The steps that take something from outside: an image, or what ADD fetches.
var (
	fromImage = regexp.MustCompile(`^(?:(?:\[[^\]]*\] )?FROM |docker-image://)(\S+)$`)
	fetched   = regexp.MustCompile(`\] (?:ONBUILD )?ADD .*(://|@\S+:)|^(https?|git)://`)
)

// saw hears of a step of the build, and holds an image that it takes against
// those that were hashed: a tag may move meanwhile, an engine may have another
// image of that name, and a base image may bring instructions of its own.
func (in *Inputs) ObserveStep(step string) {
	if in == nil {
		return
	}
	if fetched.MatchString(step) {
		in.mismatch.Store(true)
	}
	m := fromImage.FindStringSubmatch(step)
	if m == nil || slices.Contains(in.pinned, m[1]) {
		return
	}
	ref, digest, named := strings.Cut(m[1], "@")
	if name, err := reference.ParseNormalizedNamed(ref); err == nil {
		ref = reference.TagNameOnly(name).String() // 20.10 leaves latest out
	}
	want := in.bases[ref]
	if want == "" || named && digest != want || !named && !slices.Contains(in.local(ref), want) {
		in.mismatch.Store(true)
	}
}

// marked gives the marks of the files that were hashed.
func (in *Inputs) ContentTimes() *ContentTimes {
	if in == nil {
		return nil
	}
	return in.times
}

// Held says, when the build is over, whether it took what was hashed: these base
// images, and files that have not changed since.
func (in *Inputs) Verify() bool { return !in.mismatch.Load() && in.rehash() }

// check begins to find out, so that nobody waits for it in the end.
func (in *Inputs) VerifyInBackground() {
	if in != nil && !in.mismatch.Load() {
		go in.rehash()
	}
}

// pin names the image of a context by the digest that was hashed.
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

// resolve gives the digests that were hashed.
func (in *Inputs) resolve(_ context.Context, ref string) (digest.Digest, error) {
	return digest.Digest(in.bases[ref]), nil
}
