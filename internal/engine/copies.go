package engine

import (
	"context"
	"io"
	"regexp"
	"runtime"
	"strings"
	"sync"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// Bases lends the layers of base images from their own registry.
type Bases interface {
	// Observe hears of a base image, as ref@sha256:…, and the platform it is taken for.
	Observe(ref, platform string)
	// LayerByDigest finds a layer of a base image that was seen, with its size in bytes.
	LayerByDigest(ctx context.Context, d digest.Digest) (size int64, open func() (io.ReadCloser, error), ok bool)
	// LayerByDiffID finds such a layer by its diffID.
	LayerByDiffID(ctx context.Context, diffID digest.Digest) (d digest.Digest, size int64, open func() (io.ReadCloser, error), ok bool)
	// Copy puts every layer of at least so many bytes of a base image that was
	// seen; it stops at the first that fails.
	Copy(ctx context.Context, ref, platform string, least int64, put func(ctx context.Context, d digest.Digest, size int64, open func() (io.ReadCloser, error)) error) error
}

// fromStep is how BuildKit names the step that takes a base image.
var fromStep = regexp.MustCompile(`FROM (\S+@sha256:[0-9a-f]{64})`)

// stepPlatform is how BuildKit names the platform in a build of several.
var stepPlatform = regexp.MustCompile(`^\[([a-z0-9]+/[a-z0-9/]+) `)

// bases hears of base images from the steps of a build. The one whose layers
// the image ends up with is on its way to the registry while the rest is built;
// what cannot be copied, the engine sends.
func (r *Request) bases(ctx context.Context, s *bkclient.SolveStatus, copies *copies) {
	if r.Bases == nil {
		return
	}
	for _, v := range s.Vertexes {
		m := fromStep.FindStringSubmatch(v.Name)
		if m == nil {
			continue
		}
		ref := m[1]
		// One platform is copied: that of the image, or of the engine, which
		// lends its loopback and so its processor.
		platform := "linux/" + runtime.GOARCH
		switch len(r.Image.Build.Platforms) {
		case 0:
		case 1:
			platform = r.Image.Build.Platforms[0]
		default:
			// Several are not copied ahead; a step says which one it is for.
			if m := stepPlatform.FindStringSubmatch(v.Name); m != nil {
				r.Bases.Observe(ref, m[1])
			}
			continue
		}
		r.Bases.Observe(ref, platform)
		if name, _, _ := strings.Cut(ref, "@"); copies.sink != nil && name == copies.base && !copies.begun {
			copies.begun = true
			copies.wg.Go(func() { _ = r.Bases.Copy(ctx, ref, platform, copies.least, copies.sink.Put) })
		}
	}
}

// copies are the layers of a base image on their way.
type copies struct {
	sink  Sink   // nil where nothing is pushed
	base  string // the base image that counts
	least int64  // bytes of a layer that is worth it
	begun bool
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

// end stops what nobody waits for any more: a layer that the image needs has
// been waited for, by whoever would have sent it.
func (c *copies) end() {
	if c.stop != nil {
		c.stop()
	}
	c.wg.Wait()
}

// newCopies finds the base image. A classic engine asks for the upstream digest
// of large layers alone, and sends the others as it compresses them.
func (e *Engine) newCopies(img plan.Image, sink Sink) *copies {
	c := &copies{sink: sink}
	if e.Store == Classic {
		c.least = smallBlob
	}
	if sink == nil || plan.Remote(img.Build.Context) {
		return c
	}
	if d, err := ReadDockerfile(img); err == nil {
		c.base = d.Base(img.Build.Target)
	}
	return c
}
