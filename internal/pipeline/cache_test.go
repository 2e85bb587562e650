package pipeline

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// TestCaches are written after the definitions, each image's own, and fail no run.
func TestCaches(t *testing.T) {
	f := newFixture(t, "app", "nginx", "none", "inline")
	f.plan.Images[0].Build.Cache = plan.CacheRegistry
	f.plan.Images[1].Build.Cache = plan.CacheLocal
	f.plan.Images[3].Build.Cache = plan.CacheInline
	now := time.Now()
	f.engine.steps = []progress.BuildStep{{ID: "sha256:a", Name: "[2/2] RUN make", Started: &now, Completed: &now}}
	f.engine.exportFails = errors.New("the registry is full")
	f.engine.onExport = func() {
		if _, err := os.Stat(f.plan.Definitions[0].File); err != nil {
			t.Errorf("before the definitions: %v", err)
		}
	}
	if _, err := f.run(t, Options{CacheFolder: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(f.engine.exported)
	if diff := cmp.Diff([]string{"app missing", "nginx missing"}, f.engine.exported); diff != "" {
		t.Error(diff)
	}
	f.said.has(t, "there is no cache at shop/app:buildcache-app yet")
	f.said.has(t, "the cache was not written: the registry is full")
}

// TestCacheOfReused: an image that was not built has no steps to keep.
func TestCacheOfReused(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Images[0].Build.Cache = plan.CacheRegistry
	if _, err := f.run(t, Options{}); err != nil || len(f.engine.exported) != 0 {
		t.Errorf("%v, %v", f.engine.exported, err)
	}
}

// TestCacheWithoutFolder is left out, with a line.
func TestCacheWithoutFolder(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Images[0].Build.Cache = plan.CacheLocal
	if _, err := f.run(t, Options{}); err != nil || len(f.engine.exported) != 0 {
		t.Errorf("%v, %v", f.engine.exported, err)
	}
	f.said.has(t, "cache: local is left out: there is no folder for it")
}
