package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// TestParts: an image that is built in parts is one index, with caches for each part.
func TestParts(t *testing.T) {
	f := newFixture(t, "web", "worker")
	f.plan.Builder, f.plan.Nodes = plan.BuilderBuildKit, make([]plan.Node, 2)
	web := &f.plan.Images[0]
	web.Build.Platforms, web.Build.Cache = []string{"linux/amd64", "linux/arm64"}, plan.CacheRegistry
	web.Build.CacheMounts = true
	f.engine.parts = map[string][]plan.Image{"web": {web.ForPlatforms([]string{"linux/amd64"}),
		web.ForPlatforms([]string{"linux/arm64"})}}
	f.plan.Images[0].Build.Platforms = nil // which the fake would refuse
	now := time.Now()
	f.engine.steps = []progress.BuildStep{{ID: "sha256:a", Name: "[2/2] RUN make", Started: &now, Completed: &now}}
	result, err := f.run(t, Options{})
	if err != nil {
		t.Fatal(err)
	}
	root := result.Images[0].Artifact.Root()
	var index ocispec.Index
	if err := json.Unmarshal(root.Data, &index); err != nil || root.MediaType != ocispec.MediaTypeImageIndex {
		t.Fatal(root.MediaType, err)
	}
	var got []string
	for _, m := range index.Manifests {
		got = append(got, m.Platform.Architecture)
	}
	if !slices.Equal(got, []string{"amd64", "arm64"}) {
		t.Errorf("%v", got)
	}
	slices.Sort(f.engine.exported)
	if !slices.Equal(f.engine.exported, []string{"web missing", "web missing"}) {
		t.Errorf("%v", f.engine.exported)
	}
	if len(result.Images[0].Steps) != 2 || len(f.engine.packed) > 0 {
		t.Errorf("%v %v", result.Images[0].Steps, f.engine.packed)
	}
	for _, want := range []string{"there is no cache at shop/web:buildcache-web.linux-amd64 yet",
		"there is no cache at shop/web:buildcache-web.linux-arm64 yet"} {
		if !slices.ContainsFunc(f.said.lines, func(l string) bool { return strings.Contains(l, want) }) {
			t.Errorf("nobody has said %q: %q", want, f.said.lines)
		}
	}
}

type failing struct{ err error }

func (f failing) Build(context.Context, builder.Job) (*image.Artifact, error) { return nil, f.err }

// TestRestart: when a builder is lost that had images which are built on each other, all begin again.
func TestRestart(t *testing.T) {
	f := newFixture(t, "base", "web")
	f.engine.losses = 1
	if _, err := f.run(t, Options{Jobs: 1}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.engine.built, []string{"base", "base", "web"}) || f.engine.closedSolves != 1 {
		t.Errorf("%v, closed %d times", f.engine.built, f.engine.closedSolves)
	}
	// Also where it is told of as the failure of what an image is built on.
	base := &builder.BaseError{Image: plan.Image{ID: "base"}, Err: errors.New("lost")}
	r := reported{failing{&RestartError{base}}, f.said}
	var restart *RestartError
	if _, err := r.Build(t.Context(), builder.Job{}); !errors.As(err, &restart) {
		t.Error(err)
	}
	f.engine.losses = 100
	if _, err := f.run(t, Options{Jobs: 1}); err == nil || f.engine.losses != 100-1-maxRestarts {
		t.Errorf("%v after %d tries", err, 100-f.engine.losses)
	}
}
