package builder

import (
	"context"
	"errors"
	"testing"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
)

// TestPullWatch: a manifest that does not come, and a layer that stands still, end the build; one
// that moves, is unpacked or has been pulled does not.
func TestPullWatch(t *testing.T) {
	oldManifest, oldLayer := manifestPatience, layerPatience
	manifestPatience, layerPatience = 60*time.Millisecond, 60*time.Millisecond
	t.Cleanup(func() { manifestPatience, layerPatience = oldManifest, oldLayer })
	now := time.Now()
	const load, from = "[internal] load metadata for docker.io/library/base:1", "[1/2] FROM docker.io/library/base:1"
	layer := func(id string, current, total int64, done bool) *bkclient.VertexStatus {
		s := &bkclient.VertexStatus{ID: id, Vertex: digest.FromString(from), Current: current, Total: total}
		if done {
			s.Completed = &now
		}
		return s
	}
	for name, tt := range map[string]struct {
		step   string
		layers []*bkclient.VertexStatus // one after the other
		ends   bool                     // the step does
		want   string                   // the base of the error
	}{
		"no manifest": {load, nil, false, "docker.io/library/base:1"},
		"a manifest":  {load, nil, true, ""},
		"a layer stops": {from, []*bkclient.VertexStatus{layer("sha256:1", 5, 10, false)}, false,
			"docker.io/library/base:1"},
		"a layer moves": {from, []*bkclient.VertexStatus{layer("sha256:1", 5, 10, false), layer("sha256:1", 6, 10, false),
			layer("sha256:1", 7, 10, false), layer("sha256:1", 10, 10, true)}, false, ""},
		"a layer is here": {from, []*bkclient.VertexStatus{layer("sha256:1", 10, 10, true),
			layer("extracting sha256:1", 0, 0, false)}, false, ""},
		"nothing to be done": {from, nil, false, ""},
		"another step":       {"[2/2] RUN sleep 1000", nil, false, ""},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		w := newPullWatch("web", cancel)
		v := &bkclient.Vertex{Digest: digest.FromString(tt.step), Name: tt.step, Started: &now}
		w.observe(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{v}})
		for _, l := range tt.layers {
			time.Sleep(30 * time.Millisecond)
			w.observe(&bkclient.SolveStatus{Statuses: []*bkclient.VertexStatus{l}})
		}
		if tt.ends {
			ended := *v
			ended.Completed = &now
			w.observe(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{&ended}})
		}
		select {
		case <-ctx.Done():
		case <-time.After(150 * time.Millisecond):
		}
		var stalled *StalledPullError
		if errors.As(context.Cause(ctx), &stalled) != (tt.want != "") || stalled != nil && stalled.Base != tt.want {
			t.Errorf("%s: %v", name, context.Cause(ctx))
		}
		w.end()
		cancel(nil)
	}
}

// TestStalledPull: BuildKit waits for a registry without end, and a build does not.
func TestStalledPull(t *testing.T) {
	old := manifestPatience
	manifestPatience = 50 * time.Millisecond
	t.Cleanup(func() { manifestPatience = old })
	fake := &enginetest.Engine{Containerd: true}
	fake.Build = func(ctx context.Context, b *enginetest.Build) (map[string]string, error) {
		b.Step("[internal] load metadata for docker.io/library/base:1")
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_, err := connect(t, fake, false).Build(t.Context(), job(t, func(j *Job) { j.Keep = true }))
	var stalled *StalledPullError
	if !errors.As(err, &stalled) || stalled.Base != "docker.io/library/base:1" {
		t.Errorf("%v", err)
	}
}
