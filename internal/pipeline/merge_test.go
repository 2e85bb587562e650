package pipeline

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// parts builds each image in a part of its own.
func (f *fixture) parts(t *testing.T) (artifacts []*image.Artifact, host string) {
	t.Helper()
	all, defs := f.plan.Images, f.plan.Definitions
	for _, img := range all {
		f.plan.Images, f.plan.Definitions = []plan.Image{img}, nil
		part, err := f.run(t, Options{Part: true})
		if err != nil {
			t.Fatal(err)
		}
		artifacts, host = append(artifacts, part.Images[0].Artifact), part.Images[0].Refs[0].Registry
	}
	if len(f.puts) != len(all) || slices.ContainsFunc(f.puts, isTag) {
		t.Errorf("%q", f.puts)
	}
	f.plan.Images, f.plan.Definitions, f.puts = all, defs, nil
	return artifacts, host
}

// isTag says that a manifest was put under a tag.
func isTag(put string) bool { return !strings.Contains(put, "/sha256:") }

// TestMergeMovesNone: what is known to fail is found while no tag has moved: an image that is gone
// since its part was built, a tag that is taken, definitions that will be too large.
func TestMergeMovesNone(t *testing.T) {
	f := newFixture(t, "a", "b", "c", "d", "e", "f") // whose manifests and tags are more than ECR takes in a second
	artifacts, host := f.parts(t)
	refused := func(what, want string) {
		t.Helper()
		_, err := Merge(t.Context(), f.plan, artifacts, host, f.deps, Options{})
		f.mu.Lock() // a request that was cut off may still be served
		defer f.mu.Unlock()
		if err == nil || !strings.Contains(err.Error(), want) || slices.ContainsFunc(f.puts, isTag) {
			t.Errorf("%s: %v, %q", what, err, f.puts)
		}
	}
	gone := func(manifest string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.refuse = manifest
	}
	gone(artifacts[2].Root().Digest.String())
	refused("an image that is gone", "c: ")
	gone("")

	defer func(was time.Duration) { tagStatePatience = was }(tagStatePatience)
	tagStatePatience = time.Millisecond // which is for runs that have built
	f.ecr.before = func() { time.Sleep(50 * time.Millisecond) }
	f.ecr.states = map[string]registry.TagState{"shop/d:v1": {Immutable: true, Digest: "sha256:other"}}
	refused("a tag that is taken", "shop/d:v1 is taken")
	f.ecr.states = nil

	f.plan.Definitions[0].Entries = nil
	for range 500 {
		f.plan.Definitions[0].Entries = append(f.plan.Definitions[0].Entries,
			plan.Entry{Container: strings.Repeat("n", 250), Image: "a"})
	}
	refused("large definitions", "is too large")
}

// TestMerge: a part moves no tag, and merge moves all of them, or none.
func TestMerge(t *testing.T) {
	f := newFixture(t, "web", "worker")
	defs := f.plan.Definitions
	artifacts, host := f.parts(t)
	merge := func(host string) (*Result, error) {
		return Merge(t.Context(), f.plan, artifacts, host, f.deps, Options{})
	}

	if _, err := merge("elsewhere.example"); err == nil ||
		!strings.Contains(err.Error(), "the parts went to elsewhere.example") {
		t.Error(err)
	}
	f.deps.Checks = []func(context.Context) error{func(context.Context) error { return errors.New("no such service") }}
	if _, err := merge(host); err == nil || len(f.puts) != 0 {
		t.Error(err, f.puts)
	}
	f.deps.Checks = nil
	f.plan.Images[0].OnImmutable, f.ecr.err = plan.FailTaken, errors.New("it is taken") // since the part was built
	if _, err := merge(host); err == nil || !strings.Contains(err.Error(), "web: it is taken") || len(f.puts) != 0 {
		t.Error(err, f.puts)
	}
	f.plan.Images[0].OnImmutable, f.ecr.err = "", nil
	f.plan.Gates = []plan.Gate{{Command: "false", Timeout: 60}}
	var gate *GateError
	moved := func(p string) bool { return strings.HasSuffix(p, "/v1") }
	if _, err := merge(host); !errors.As(err, &gate) || slices.ContainsFunc(f.puts, moved) {
		t.Error(err, f.puts)
	}
	if _, err := os.Stat(defs[0].File); err == nil {
		t.Error("there are definitions")
	}
	slices.Sort(f.engine.loaded)
	if !slices.Equal(f.engine.loaded, []string{"web unchanged", "worker unchanged"}) {
		t.Errorf("loaded %q", f.engine.loaded)
	}
	f.plan.Gates = nil
	f.deps.Engine = nil // nothing is built
	result, err := merge(host)
	if err != nil || len(result.Definitions) != 1 {
		t.Fatal(err, result)
	}
	if _, err := os.Stat(defs[0].File); err != nil || !slices.Contains(f.puts, "web/manifests/v1") ||
		!slices.Contains(f.puts, "worker/manifests/v1") {
		t.Error(err, f.puts)
	}
}
