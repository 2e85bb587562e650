package builder

import (
	"context"
	"sync"
)

// LimitJobs has the engine run the steps of n images at once at most, and export as many more
// meanwhile. It comes before the first build.
func (e *Engine) LimitJobs(n int) {
	e.steps = make(chan struct{}, n)
	e.solves = make(chan struct{}, min(2*n, maxSolves))
}

// A slot is that of one image among those whose steps run at once.
type slot struct {
	slots chan struct{} // nil for any number

	mu   sync.Mutex
	held bool
}

// acquire waits for the slot, where the image does not have it.
func (s *slot) acquire(ctx context.Context) error {
	if s.slots == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		return nil
	}
	select {
	case s.slots <- struct{}{}:
		s.held = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// release leaves the slot to the next image.
func (s *slot) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		<-s.slots
		s.held = false
	}
}
