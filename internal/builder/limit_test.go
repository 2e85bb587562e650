package builder

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
)

// TestLimitJobs: an engine builds no more images at once than its limit says.
func TestLimitJobs(t *testing.T) {
	var mu sync.Mutex
	running, most := 0, 0
	fake := &enginetest.Engine{Containerd: true,
		Build: func(context.Context, *enginetest.Build) (map[string]string, error) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(50 * time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			return nil, nil
		}}
	e := connect(t, fake, false)
	e.LimitJobs(2)
	var wg sync.WaitGroup
	for range 6 {
		j := job(t, func(j *Job) { j.Keep = true })
		wg.Go(func() {
			if _, err := e.Build(t.Context(), j); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != 2 {
		t.Errorf("%d at once", most)
	}
}
