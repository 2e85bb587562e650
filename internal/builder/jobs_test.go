package builder

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
)

// TestLimitJobs: an engine runs the steps of no more images at once than its limit says, and exports
// others meanwhile: each image's export here waits for the next image's steps.
func TestLimitJobs(t *testing.T) {
	const images, limit = 6, 2
	var mu sync.Mutex
	began, running, most := 0, 0, 0
	change := sync.NewCond(&mu)
	fake := &enginetest.Engine{Containerd: true,
		Build: func(ctx context.Context, b *enginetest.Build) (map[string]string, error) {
			mu.Lock()
			began++
			others := min(began+limit, images) // that have begun, for this one to end
			running++
			most = max(most, running)
			change.Broadcast()
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			b.Step("exporting to image")
			late := context.AfterFunc(ctx, change.Broadcast)
			defer late()
			mu.Lock()
			defer mu.Unlock()
			for began < others && ctx.Err() == nil {
				change.Wait()
			}
			if began < others {
				return nil, errors.New("nothing began while this was exported")
			}
			return nil, nil
		}}
	e := connect(t, fake, false)
	e.LimitJobs(limit)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range images {
		j := job(t, func(j *Job) { j.Keep = true })
		wg.Go(func() {
			if _, err := e.Build(ctx, j); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != limit {
		t.Errorf("the steps of %d at once", most)
	}
}
