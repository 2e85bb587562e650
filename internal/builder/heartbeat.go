package builder

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/moby/moby/client"

	"github.com/ecsbuild/ecsbuild/internal/endpoint"
)

// An engine on another host may fall silent with the network: nothing then ends a build.
var (
	beatInterval = 30 * time.Second // between two questions
	beatTimeout  = 30 * time.Second // of an answer
)

// maxMissed is how many answers in a row may be missing.
const maxMissed = 2

// IsRemote says that the engine is on another host.
func (e *Engine) IsRemote() bool { return !e.Endpoint.IsLocal() }

// Watch asks the engine from time to time, until it is closed or does not answer. A remote one is
// watched anyway.
func (e *Engine) Watch() {
	if e.lost != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	e.lost = ctx
	var beating sync.WaitGroup
	beating.Go(func() {
		for missed := 0; missed < maxMissed; {
			select {
			case <-time.After(beatInterval):
			case <-ctx.Done():
				return
			}
			limited, stop := context.WithTimeout(ctx, beatTimeout)
			err := e.Ping(limited)
			if err != nil && limited.Err() != nil { // another error is an answer
				missed++
			} else {
				missed = 0
			}
			stop()
		}
		cancel(&endpoint.UnreachableError{Endpoint: e.Endpoint, Lost: true,
			Err: fmt.Errorf("it has not answered for %v", maxMissed*beatTimeout+beatInterval)})
	})
	e.stopBeat = func() { cancel(nil); beating.Wait() }
}

// Ping asks the engine for an answer.
func (e *Engine) Ping(ctx context.Context) error {
	if e.docker != nil {
		_, err := e.docker.Ping(ctx, client.PingOptions{})
		return err
	}
	_, err := e.bk.Info(ctx)
	return err
}

// answers says whether the engine does, where something has failed on it.
func (e *Engine) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return e.Ping(ctx) == nil
}

// untilLost ends a context with a remote engine that does not answer any more.
func (e *Engine) untilLost(cancel context.CancelCauseFunc) (stop func() bool) {
	if e.lost == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(e.lost, func() { cancel(context.Cause(e.lost)) })
}
