package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/builder"
	"github.com/ecsbuild/ecsbuild/internal/cachemount"
	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// mountsFixture is an image with one cache mount, whose step took some time.
func mountsFixture(t *testing.T, cache plan.Cache, took time.Duration) *fixture {
	t.Helper()
	f := newFixture(t, "app")
	b := &f.plan.Images[0].Build
	b.Cache, b.CacheMounts = cache, true
	if err := os.WriteFile(b.Dockerfile, []byte("FROM scratch\nRUN --mount=type=cache,target=/root/.npm npm ci\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	began := now.Add(-took)
	f.engine.steps = []progress.BuildStep{{ID: "sha256:a", Name: "[2/2] RUN --mount=type=cache,target=/root/.npm npm ci",
		Kind: progress.Instruction, Started: &began, Completed: &now}}
	f.engine.mount = cachemount.Result{Summary: cachemount.Summary{Listing: "one", Files: 1}, Packed: true}
	return f
}

// mountsFolder is where the mounts of the first image are kept in a folder of caches.
func (f *fixture) mountsFolder(t *testing.T, caches string) string {
	t.Helper()
	backends, err := f.deps.Backends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(caches, cacheMountsFolder, (&run{backends: backends}).localName(f.plan.Images[0]))
}

// TestCacheMounts: what a run packs, the next one fills, and does not pack again.
func TestCacheMounts(t *testing.T) {
	for _, cache := range []plan.Cache{plan.CacheRegistry, plan.CacheLocal, ""} {
		f := mountsFixture(t, cache, 10*time.Second)
		options := Options{CacheFolder: t.TempDir()}
		for _, engine := range []string{"first", "first", "second", "second"} { // each is filled once
			f.engine.id = engine
			if _, err := f.run(t, options); err != nil {
				t.Fatal(err)
			}
			f.engine.mount.Packed = false
		}
		if diff := cmp.Diff([]string{"app 1 archive"}, f.engine.filled) +
			cmp.Diff([]string{`app [""]`, `app ["one"]`, `app ["one"]`, `app ["one"]`}, f.engine.packed); diff != "" {
			t.Errorf("%q: %s", cache, diff)
		}
		f.said.has(t, "cache_mounts: kept")
		_, err := os.Stat(filepath.Join(f.mountsFolder(t, options.CacheFolder), "manifest.json"))
		if local := cache == plan.CacheLocal; (err == nil) != local {
			t.Errorf("%q: in the folder: %v", cache, err)
		}
	}
}

// TestCacheMountsNotWorthIt are neither packed nor filled where the steps take no time.
func TestCacheMountsNotWorthIt(t *testing.T) {
	f := mountsFixture(t, "", minMountGain/2)
	if _, err := f.run(t, Options{}); err != nil || len(f.engine.packed) != 0 {
		t.Errorf("%v, %v", f.engine.packed, err)
	}
	m := newMountManifest()
	for seconds, want := range map[string]bool{"30": true, "0.5": false, "": false, "rubbish": false, "NaN": false, "-1": false, "Inf": true} {
		m.Annotations[mountsSeconds] = seconds
		m.Layers = []ocispec.Descriptor{{Size: 10 * fillRate}}
		if got := worthFilling(&m); got != want {
			t.Errorf("%q: %v", seconds, got)
		}
	}
}

// TestCacheMountsFail costs a line each, and no run.
func TestCacheMountsFail(t *testing.T) {
	f := mountsFixture(t, "", 10*time.Second)
	if _, err := f.run(t, Options{}); err != nil {
		t.Fatal(err)
	}
	f.engine.mountsFail, f.engine.id = errors.New("the disk is full"), "another"
	if _, err := f.run(t, Options{}); err != nil {
		t.Fatal(err)
	}
	f.said.has(t, "cache_mounts: not filled: the disk is full")
	f.said.has(t, "the cache of mounts was not written: the disk is full")

	folder := t.TempDir()
	f = mountsFixture(t, plan.CacheLocal, 10*time.Second)
	if err := os.MkdirAll(f.mountsFolder(t, folder), 0o755); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(f.mountsFolder(t, folder), "manifest.json")
	if err := os.WriteFile(manifest, []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.run(t, Options{CacheFolder: folder}); err != nil || len(f.engine.filled) != 0 {
		t.Errorf("%v, %v", f.engine.filled, err)
	}
	f.said.has(t, "cache_mounts: the mounts begin empty: ")
}

// TestCacheMountsProblem: what is too large is told, and not kept.
func TestCacheMountsProblem(t *testing.T) {
	f := mountsFixture(t, "", 10*time.Second)
	f.engine.mount = cachemount.Result{Problem: "it holds too much"}
	if _, err := f.run(t, Options{}); err != nil {
		t.Fatal(err)
	}
	f.said.has(t, "cache_mounts: /root/.npm is not kept: it holds too much")
}

// TestCacheMountsTooLarge: what would take longer to fill than it saves is not kept.
func TestCacheMountsTooLarge(t *testing.T) {
	f := mountsFixture(t, plan.CacheLocal, 2*time.Second)
	f.engine.archive = 3 * fillRate
	folder := t.TempDir()
	if _, err := f.run(t, Options{CacheFolder: folder}); err != nil {
		t.Fatal(err)
	}
	f.said.has(t, "cache_mounts: not kept, since to fill them with 125.8 MB would take longer")
	if left, err := os.ReadDir(f.mountsFolder(t, folder)); len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestCacheMountsDamaged: an archive of the folder that is another one is not filled in.
func TestCacheMountsDamaged(t *testing.T) {
	f := mountsFixture(t, plan.CacheLocal, 10*time.Second)
	folder := t.TempDir()
	if _, err := f.run(t, Options{CacheFolder: folder}); err != nil {
		t.Fatal(err)
	}
	archives, err := filepath.Glob(filepath.Join(folder, "cachemounts", "*", "*.tar.zst"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("%v, %v", archives, err)
	}
	if err := errors.Join(os.Remove(archives[0]), os.WriteFile(archives[0], []byte("ARCHIVE"), 0o644)); err != nil {
		t.Fatal(err)
	}
	f.engine.id = "another"
	if _, err := f.run(t, Options{CacheFolder: folder}); err != nil || len(f.engine.filled) != 0 {
		t.Errorf("%v, %v", f.engine.filled, err)
	}
	f.said.has(t, "has the content of")
}

func TestUsesCacheMount(t *testing.T) {
	for name, want := range map[string]bool{
		"[2/3] RUN --mount=type=cache,target=/x npm ci":                          true,
		"[2/3] RUN --network=none --mount=type=cache,target=/x npm ci":           true,
		"[2/3] RUN     --mount=id=x,type=cache,target=/x npm ci":                 true,
		"[2/3] RUN --mount=type=secret,id=a --mount=type=cache,target=/x npm ci": true,
		"[2/3] RUN --mount=type=secret,id=a npm ci":                              false,
		"[2/3] COPY a b": false,
	} {
		if got := usesCacheMount.MatchString(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// hangingStore has an artifact, and never gives what it names.
type hangingStore struct {
	mountStore
	found *ocispec.Manifest
}

func (s hangingStore) load(context.Context) (*ocispec.Manifest, error) { return s.found, nil }
func (hangingStore) fetch(ctx context.Context, _ ocispec.Descriptor, _ string) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestCacheMountsTakeTooLong: archives are waited for no longer than they save.
func TestCacheMountsTakeTooLong(t *testing.T) {
	f := mountsFixture(t, "", time.Second)
	t.Setenv("TMPDIR", t.TempDir())
	m := newMountManifest()
	m.Annotations[mountsSeconds] = "0.2"
	m.Layers = []ocispec.Descriptor{{Size: 1, Annotations: map[string]string{mountID: "/root/.npm"}}}
	k := &keptMounts{mounts: []dockerfile.CacheMount{{ID: "/root/.npm"}}, store: hangingStore{found: &m}}
	backends, err := f.deps.Backends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &run{plan: f.plan, deps: f.deps, backends: backends}
	began := time.Now()
	r.fetchMounts(t.Context(), f.plan.Images[0], k)
	if took := time.Since(began); took < 200*time.Millisecond || took > 5*time.Second || k.found != nil || k.folder != "" {
		t.Errorf("%s, %v, %q", took, k.found, k.folder)
	}
	f.said.has(t, "the mounts begin empty: to fetch what is kept takes longer than the 0.2 s that it saves")

	k = &keptMounts{mounts: k.mounts, fetched: make(chan struct{}), folder: t.TempDir(),
		until: time.Now().Add(50 * time.Millisecond)}
	close(k.fetched)
	f.engine.onFill = func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	r.engine = f.engine
	r.fillMounts(t.Context(), builder.Job{Image: f.plan.Images[0]}, k)
	if k.warm {
		t.Error("they count as filled")
	}
	f.said.has(t, "not filled, since to fetch and fill them takes longer than it saves")
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestCacheMountsStopped: a signal ends a run that fills mounts, and the packing of a run whose
// images are in the registry, and leaves no folder.
func TestCacheMountsStopped(t *testing.T) {
	f := mountsFixture(t, "", 10*time.Second)
	t.Setenv("TMPDIR", t.TempDir())
	if _, err := f.run(t, Options{}); err != nil {
		t.Fatal(err)
	}
	stopped := errors.New("stopped")
	for name, phase := range map[string]*func(context.Context) error{"fill": &f.engine.onFill, "pack": &f.engine.onPack} {
		ctx, cancel := context.WithCancelCause(t.Context())
		*phase = func(ctx context.Context) error {
			cancel(stopped)
			<-ctx.Done()
			return context.Cause(ctx)
		}
		f.engine.id = name
		_, err := Run(ctx, f.plan, f.deps, Options{})
		if name == "fill" && !errors.Is(err, stopped) || name == "pack" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		*phase = nil
		if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
			t.Errorf("%s: left: %v, %v", name, left, err)
		}
	}
}

// TestLocalCachesByRegistry: images of one name in two registries share nothing.
func TestLocalCachesByRegistry(t *testing.T) {
	one, two := mountsFixture(t, plan.CacheLocal, time.Second), mountsFixture(t, plan.CacheLocal, time.Second)
	if a, b := one.mountsFolder(t, "/caches"), two.mountsFolder(t, "/caches"); a == b {
		t.Error(a)
	}
}

// TestCacheMountsSeconds: what is kept says how long the steps took with empty mounts, also
// where an engine whose mounts were full keeps it once more.
func TestCacheMountsSeconds(t *testing.T) {
	f := mountsFixture(t, plan.CacheLocal, 28*time.Second)
	folder := t.TempDir()
	for _, took := range []time.Duration{28 * time.Second, 3 * time.Second} {
		began := time.Now().Add(-took)
		f.engine.steps[0].Started = &began
		if _, err := f.run(t, Options{CacheFolder: folder}); err != nil {
			t.Fatal(err)
		}
		f.engine.mount.Listing += "more" // a package was added
	}
	data, err := os.ReadFile(filepath.Join(f.mountsFolder(t, folder), "manifest.json"))
	if err != nil || !strings.Contains(string(data), `"dev.ecsbuild.cachemounts.seconds":"28.`) {
		t.Errorf("%s, %v", data, err)
	}
}

// TestCacheOutputs: no context has what a run keeps, and each has everything else.
func TestCacheOutputs(t *testing.T) {
	own, checkout := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(own, buildCacheFolder), filepath.Join(checkout, "src")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for folder, want := range map[string][]string{
		"":  nil,
		own: {own},
		checkout: {filepath.Join(checkout, buildCacheFolder), filepath.Join(checkout, cacheMountsFolder),
			filepath.Join(checkout, "record.json")},
		filepath.Join(own, "none"): {filepath.Join(own, "none")},
	} {
		if diff := cmp.Diff(want, cacheOutputs(folder)); diff != "" {
			t.Errorf("%q: %s", folder, diff)
		}
	}
}
