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

// observeBase is told of a base image from a step of the build. The one whose layers
// the image ends up with is on its way to the registry while the rest is built;
// what cannot be copied, the engine sends.
func (j *Job) observeBase(ctx context.Context, s step, copies *baseCopy) {
	if j.Bases == nil || !strings.Contains(s.base, "@sha256:") {
		return
	}
	// One platform is copied: that of the image, or of the engine, which
	// shares its loopback and so its processor.
	platform := "linux/" + runtime.GOARCH
	switch len(j.Image.Build.Platforms) {
	case 0:
	case 1:
		platform = j.Image.Build.Platforms[0]
	default:
		// Several are not copied ahead; a step says which one it is for.
		if s.platform != "" {
			j.Bases.Observe(s.base, s.platform)
		}
		return
	}
	j.Bases.Observe(s.base, platform)
	copies.mu.Lock()
	defer copies.mu.Unlock()
	if name, _, _ := strings.Cut(s.base, "@"); copies.store != nil && name == copies.base && !copies.begun {
		copies.begun = true
		copies.wg.Go(func() { _ = j.Bases.Copy(ctx, s.base, platform, copies.minSize, copies.store.Put) })
	}
}

// baseImage is the image from a registry whose layers the job's image ends up with, "" for
// none.
func (j *Job) baseImage() string {
	name := j.Dockerfile.Root(j.Image.Build.Target)
	for context, base := range j.bases {
		if context == plan.ContextName(name) {
			return base.job.baseImage()
		}
	}
	return dockerfile.FullName(name)
}

// baseCopy are the layers of a base image on their way.
type baseCopy struct {
	store   image.Store // nil where nothing is pushed
	base    string      // the base image that counts
	minSize int64       // of a layer that is copied, in bytes
	mu      sync.Mutex  // two solves of an image tell of its base
	begun   bool        // or nobody waits for it any more
	wg      sync.WaitGroup
	stop    context.CancelFunc
}

// end stops what nobody waits for any more: a layer that the image needs has
// been waited for, by the code that would have sent it.
func (c *baseCopy) end() {
	c.mu.Lock()
	c.begun = true
	c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
	c.wg.Wait()
}

// newBaseCopy finds the base image. A classic engine asks for the upstream digest
// of large layers alone, and sends the others as it compresses them.
func (e *Engine) newBaseCopy(j *Job) *baseCopy {
	c := &baseCopy{}
	if e.Store == Classic {
		c.minSize = dockerpush.SmallBlob
	}
	if !j.Keep {
		c.store, c.base = j.Store, j.baseImage()
	}
	return c
}
