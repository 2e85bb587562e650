package pipeline

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// TestMerge: a part moves no tag, and merge moves all of them, or none.
func TestMerge(t *testing.T) {
	f := newFixture(t, "web", "worker")
	all, defs := f.plan.Images, f.plan.Definitions
	var artifacts []*image.Artifact
	var host string
	for _, img := range all {
		f.plan.Images, f.plan.Definitions = []plan.Image{img}, nil
		part, err := f.run(t, Options{Part: true})
		if err != nil {
			t.Fatal(err)
		}
		artifacts, host = append(artifacts, part.Images[0].Artifact), part.Images[0].Refs[0].Registry
	}
	if len(f.puts) != 2 || slices.ContainsFunc(f.puts, func(p string) bool { return !strings.Contains(p, "/sha256:") }) {
		t.Errorf("%q", f.puts)
	}
	f.plan.Images, f.plan.Definitions, f.puts = all, defs, nil
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
