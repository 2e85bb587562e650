package dockerpush

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// TestWhenAPushIsGivenUp: at once where another try is of no use, else after some failures, of
// which those that take minutes are fewer, unless they came at the same time.
func TestWhenAPushIsGivenUp(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want int // failures
	}{
		"final":          {errors.New("not a layer"), 1},
		"temporary":      {&registry.Error{Err: io.EOF}, maxFailures},
		"stalls at once": {&registry.Error{Err: &httptransport.StalledError{}}, maxFailures},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		s := &session{cancel: cancel}
		failures := 0
		for ctx.Err() == nil && failures < 10 {
			s.fail(tt.err)
			failures++
		}
		if failures != tt.want || !errors.Is(context.Cause(ctx), tt.err) {
			t.Errorf("%s: %d failures, %v", name, failures, context.Cause(ctx))
		}
		cancel(nil)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	s := &session{cancel: cancel}
	for range maxStalls {
		if ctx.Err() != nil {
			t.Error("given up too early")
		}
		s.fail(&registry.Error{Err: &httptransport.StalledError{}})
		s.lastStall = s.lastStall.Add(-2 * sameStall)
	}
	if ctx.Err() == nil {
		t.Errorf("not given up after %d stalls, one after the other", maxStalls)
	}
}
