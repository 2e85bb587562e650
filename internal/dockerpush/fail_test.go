package dockerpush

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// TestWhenAPushIsGivenUp: at once where another try is of no use, else after some failures, of
// which those that take minutes are fewer.
func TestWhenAPushIsGivenUp(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want int // failures
	}{
		"final":     {errors.New("not a layer"), 1},
		"temporary": {&registry.Error{Err: io.EOF}, maxFailures},
		"timeout":   {&registry.Error{Err: os.ErrDeadlineExceeded}, maxTimeouts},
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
}
