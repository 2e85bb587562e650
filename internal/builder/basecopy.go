package builder

import (
	"context"
	"runtime"
	"strings"
	"sync"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/dockerpush"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// observeBase hears of a base image from a step of the build. The one whose layers
// the image ends up with is on its way to the registry while the rest is built;
// what cannot be copied, the engine sends.
func (r *Request) observeBase(ctx context.Context, s step, copies *baseCopy) {
	if r.Bases == nil || !strings.Contains(s.base, "@sha256:") {
		return
	}
	// One platform is copied: that of the image, or of the engine, which
	// shares its loopback and so its processor.
	platform := "linux/" + runtime.GOARCH
	switch len(r.Image.Build.Platforms) {
	case 0:
	case 1:
		platform = r.Image.Build.Platforms[0]
	default:
		// Several are not copied ahead; a step says which one it is for.
		if s.platform != "" {
			r.Bases.Observe(s.base, s.platform)
		}
		return
	}
	r.Bases.Observe(s.base, platform)
	if name, _, _ := strings.Cut(s.base, "@"); copies.sink != nil && name == copies.base && !copies.begun {
		copies.begun = true
		copies.wg.Go(func() { _ = r.Bases.Copy(ctx, s.base, platform, copies.least, copies.sink.Put) })
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
