package registry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/httptransport"
)

// maxTries counts the first one; with the pauses below a throttled request
// gets about 15 seconds.
const maxTries = 6

// The pauses between tries grow, with jitter.
var (
	firstPause   = 200 * time.Millisecond
	longestPause = 8 * time.Second
)

// permanentError is a failure that no other try would fix.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// retry calls f until it succeeds or its failure is not a temporary *Error.
func retry(ctx context.Context, f func() error) error {
	pause := firstPause
	stalls := 0 // each takes long, and a second one is no accident
	for try := 1; ; try++ {
		err := f()
		var final permanentError
		if errors.As(err, &final) {
			return final.error
		}
		var stalled *httptransport.StalledError
		if errors.As(err, &stalled) {
			stalls++
		}
		var e *Error
		temporary := errors.As(err, &e)
		if temporary {
			e.givenUp = stalls > 1
			temporary = e.Temporary()
		}
		if !temporary || try == maxTries {
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(pause*5/2, longestPause)
	}
}
