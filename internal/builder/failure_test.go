package builder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// TestLostSnapshot: a step whose files BuildKit has lost is removed from its cache and built again,
// and where that does not help, without a cache.
func TestLostSnapshot(t *testing.T) {
	var noCache []bool
	fake := &enginetest.Engine{Containerd: true}
	fake.Build = func(_ context.Context, b *enginetest.Build) (map[string]string, error) {
		_, without := b.Attrs["no-cache"]
		if noCache = append(noCache, without); without {
			return nil, nil
		}
		return nil, errors.New("failed to solve: failed to commit 5s0g83bh7w58ff4l73m17l00x to " +
			"lutjagj0p1rfckudy8pwil5ss during finalize: failed to stat active key during commit: " +
			"snapshot 5s0g83bh7w58ff4l73m17l00x does not exist: not found")
	}
	_, err := connect(t, fake, false).Build(t.Context(), job(t, func(j *Job) { j.Keep = true }))
	if diff := cmp.Diff([]bool{false, false, true}, noCache); err != nil || diff != "" {
		t.Error(err, diff)
	}
	pruned := []string{"id==5s0g83bh7w58ff4l73m17l00x", "id==lutjagj0p1rfckudy8pwil5ss", "id==5s0g83bh7w58ff4l73m17l00x"}
	if diff := cmp.Diff(pruned, fake.Pruned()[:3]); diff != "" {
		t.Error(diff)
	}
}

// TestBuildError: where, at which step, and what it said last; secrets are masked.
func TestBuildError(t *testing.T) {
	fake := &enginetest.Engine{Containerd: true}
	fake.Build = func(_ context.Context, b *enginetest.Build) (map[string]string, error) {
		b.Step("[3/3] RUN make", "cc -o app\n", "the password is hun", "ter2\nlast line")
		b.End("[3/3] RUN make", "process did not complete: exit code: 2")
		b.End("[2/3] COPY app /app", "context canceled")
		return nil, errors.New("failed to solve: rpc error: code = Unknown desc = process \"make\" did not complete successfully: exit code: 2")
	}
	e := connect(t, fake, false)
	var mu sync.Mutex
	var output string
	_, err := e.Build(t.Context(), job(t, func(j *Job) {
		j.Masked.Add("hunter2")
		j.Status = func(s *progress.BuildStatus) {
			mu.Lock()
			defer mu.Unlock()
			for _, o := range s.Output {
				output += string(o.Data)
			}
		}
	}))
	var b *BuildError
	if !errors.As(err, &b) {
		t.Fatal(err)
	}
	if b.Step != "[3/3] RUN make" || b.ExitCode != 2 || b.Image != "web" || len(b.Lines) == 0 ||
		b.Output[len(b.Output)-1] != "last line" || strings.HasPrefix(b.Message(), "failed to solve") {
		t.Errorf("%+v: %s", b, b.Message())
	}
	if strings.Contains(fmt.Sprint(b.Output)+output, "hunter2") ||
		!strings.Contains(output, "the password is [redacted]") {
		t.Errorf("%q", output)
	}
}

// TestCanceled: the reason of the cancellation is the error.
func TestCanceled(t *testing.T) {
	started := make(chan struct{})
	fake := &enginetest.Engine{Containerd: true,
		Build: func(ctx context.Context, b *enginetest.Build) (map[string]string, error) {
			close(started)
			<-ctx.Done()
			return nil, ctx.Err()
		}}
	e := connect(t, fake, false)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("another image failed")
	go func() { <-started; cancel(reason) }()
	if _, err := e.Build(ctx, job(t, nil)); !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
}
