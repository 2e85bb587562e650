package builder

import (
	"context"
	"regexp"
	"runtime"
	"strings"
	"sync"

	bkclient "github.com/moby/buildkit/client"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/dockerpush"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// fromStep is how BuildKit names the step that takes a base image.
var fromStep = regexp.MustCompile(`FROM (\S+@sha256:[0-9a-f]{64})`)

// stepPlatform is how BuildKit names the platform in a build of several.
var stepPlatform = regexp.MustCompile(`^\[([a-z0-9]+/[a-z0-9/]+) `)

// bases hears of base images from the steps of a build. The one whose layers
// the image ends up with is on its way to the registry while the rest is built;
// what cannot be copied, the engine sends.
func (r *Request) bases(ctx context.Context, s *bkclient.SolveStatus, copies *baseCopy) {
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
type baseCopy struct {
	sink  image.Store // nil where nothing is pushed
	base  string      // the base image that counts
	least int64       // bytes of a layer that is worth it
	begun bool
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

// end stops what nobody waits for any more: a layer that the image needs has
// been waited for, by whoever would have sent it.
func (c *baseCopy) end() {
	if c.stop != nil {
		c.stop()
	}
	c.wg.Wait()
}

// newCopies finds the base image. A classic engine asks for the upstream digest
// of large layers alone, and sends the others as it compresses them.
func (e *Engine) newBaseCopy(img plan.Image, sink image.Store) *baseCopy {
	c := &baseCopy{sink: sink}
	if e.Store == Classic {
		c.least = dockerpush.SmallBlob
	}
	if sink == nil || plan.Remote(img.Build.Context) {
		return c
	}
	if d, err := dockerfile.Read(img); err == nil {
		c.base = d.Base(img.Build.Target)
	}
	return c
}
