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

// A place is that of one image among those whose steps run at once.
type place struct {
	places chan struct{} // nil for any number

	mu   sync.Mutex
	held bool
}

// take waits for the place, where the image does not have it.
func (p *place) take(ctx context.Context) error {
	if p.places == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held {
		return nil
	}
	select {
	case p.places <- struct{}{}:
		p.held = true
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave leaves the place to the next image.
func (p *place) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held {
		<-p.places
		p.held = false
	}
}
