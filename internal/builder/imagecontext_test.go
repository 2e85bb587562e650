package builder

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

func newOpenSolve() *openSolve {
	return &openSolve{known: make(chan struct{}), evaluated: make(chan struct{}), steps: map[digest.Digest]bool{}}
}

// TestWaitForBases: an image waits for the last try of the one that it is built on.
func TestWaitForBases(t *testing.T) {
	jobs := []*Job{{Image: plan.Image{ID: "web", Build: plan.Build{ImageContexts: map[string]string{"base": "app"}}}},
		{Image: plan.Image{ID: "app"}}, {Image: plan.Image{ID: "other", Build: plan.Build{NoCache: true}}},
		{Image: plan.Image{ID: "last"}}}
	LinkImages(jobs, true)
	web, app := jobs[0], jobs[1]
	if web.result == nil || app.result == nil || web.bases["base"] != app.result || jobs[2].result == nil ||
		jobs[3].result != nil {
		t.Fatalf("%+v", jobs)
	}
	waited := make(chan *openSolve)
	wait := func() {
		go func() {
			bases, err := web.waitForBases(t.Context())
			if err != nil {
				t.Error(err)
			}
			waited <- bases["base"]
		}()
	}
	wait()
	first, second := newOpenSolve(), newOpenSolve()
	app.result.set(first, nil)
	if s := <-waited; s != first || app.result.current() != first {
		t.Errorf("%p", s)
	}
	failure := errors.New("the cache is broken")
	first.end(failure)
	first.end(nil) // only the first end counts
	if app.result.current() != nil || !errors.Is(first.wait(t.Context()), failure) {
		t.Error("a solve that has failed is taken")
	}
	if !(baseSolves{"base": first}).haveFailed(t.Context(), errors.New("no active session")) {
		t.Error("its failure is not seen")
	}
	wait()
	app.result.set(second, nil)
	if s := <-waited; s != second {
		t.Errorf("%p", s)
	}
	step := digest.FromString("step")
	second.steps[step] = true
	go second.end(failure)
	if !(baseSolves{"base": second}).haveFailed(t.Context(),
		&errdefs.VertexError{Vertex: &errdefs.Vertex{Digest: step.String()}}) {
		t.Error("the failure of its step is not waited for")
	}
	if (baseSolves{"base": newOpenSolve()}).haveFailed(t.Context(),
		&errdefs.VertexError{Vertex: &errdefs.Vertex{Digest: step.String()}}) {
		t.Error("a step of the image itself is taken for one of its base")
	}
	app.result.set(nil, failure)
	var base *BaseError
	if _, err := web.waitForBases(t.Context()); !errors.As(err, &base) || base.Image.Name() != "app" ||
		!errors.Is(err, failure) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newImageResult(app).wait(ctx, false); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	busy := newImageResult(app)
	busy.set(newOpenSolve(), nil)
	if _, err := busy.wait(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("one that waits for steps: %v", err)
	}
}

// TestBaseInputs: what a solve gets of the images that it is built on.
func TestBaseInputs(t *testing.T) {
	def, err := llb.Scratch().File(llb.Mkfile("/x", 0o644, nil)).Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one := &openSolve{definitions: map[string]*pb.Definition{"": def.ToPB()},
		metadata: map[string][]byte{"containerimage.config": []byte("one")}}
	two := &openSolve{definitions: map[string]*pb.Definition{"linux/amd64": def.ToPB(), "linux/arm64": nil},
		metadata: map[string][]byte{"containerimage.config/linux/amd64": []byte("amd"),
			"containerimage.config/linux/arm64": []byte("arm")}}
	opt := bkclient.SolveOpt{FrontendAttrs: map[string]string{}}
	if err := (baseSolves{"a": one, "b": two}).addTo(&opt); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(opt.FrontendInputs)); !slices.Equal(got,
		[]string{"image-a", "image-b::linux/amd64", "image-b::linux/arm64"}) {
		t.Errorf("%v", got)
	}
	for name, want := range map[string]string{"a": "one", "b::linux/amd64": "amd", "b::linux/arm64": "arm"} {
		var metadata map[string][]byte
		if err := json.Unmarshal([]byte(opt.FrontendAttrs["input-metadata:image-"+name]), &metadata); err != nil ||
			string(metadata["containerimage.config"]) != want || opt.FrontendAttrs["context:"+name] != "input:image-"+name {
			t.Errorf("%s: %v, %v", name, opt.FrontendAttrs, err)
		}
	}
}

func TestWithoutSteps(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	s := &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Digest: a}, {Digest: b}},
		Statuses: []*bkclient.VertexStatus{{Vertex: a}},
		Logs:     []*bkclient.VertexLog{{Vertex: b}, {Vertex: a}}, Warnings: []*bkclient.VertexWarning{{Vertex: a}, {Vertex: b}}}
	got := withoutSteps(s, map[digest.Digest]bool{a: true})
	if len(got.Vertexes) != 1 || len(got.Statuses) != 0 || len(got.Logs) != 1 || len(got.Warnings) != 1 ||
		got.Vertexes[0].Digest != b {
		t.Errorf("%+v", got)
	}
	if withoutSteps(s, nil) != s {
		t.Error("nothing is left out")
	}
}

// TestStartedSteps: a step that a build has told of is no news, unless it begins again.
func TestStartedSteps(t *testing.T) {
	at := func(second int64) *time.Time { t := time.Unix(second, 0); return &t }
	a, b := digest.FromString("a"), digest.FromString("b")
	var h startedSteps
	h.note(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Digest: a, Started: at(1)}, {Digest: b}}})
	begun := map[digest.Digest]bool{}
	old := &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Digest: a, Started: at(1)}, {Digest: b}},
		Logs: []*bkclient.VertexLog{{Vertex: a}}}
	if got := h.later(old, begun); len(got.Vertexes)+len(got.Logs) != 0 {
		t.Errorf("%+v", got)
	}
	again := &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Digest: a, Started: at(2)}, {Digest: b, Started: at(2)}}}
	if got := h.later(again, begun); len(got.Vertexes) != 2 {
		t.Errorf("%+v", got)
	}
	if got := h.later(&bkclient.SolveStatus{Logs: []*bkclient.VertexLog{{Vertex: a}}}, begun); len(got.Logs) != 1 {
		t.Errorf("%+v", got)
	}
}

// TestBaseImage: the image of a registry that an image of the run begins with is that of its base.
func TestBaseImage(t *testing.T) {
	parse := func(text string) *dockerfile.File {
		f, err := dockerfile.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	jobs := []*Job{{Image: plan.Image{ID: "web", Build: plan.Build{ImageContexts: map[string]string{"base": "app"}}},
		Dockerfile: parse("FROM base:latest AS x\nFROM x\n")},
		{Image: plan.Image{ID: "app"}, Dockerfile: parse("FROM php:8\n")}}
	LinkImages(jobs, true)
	if got := jobs[0].baseImage(); got != "docker.io/library/php:8" {
		t.Error(got)
	}
}
