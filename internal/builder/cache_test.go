package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/enginetest"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

func TestCacheEntries(t *testing.T) {
	entries := func(list []bkclient.CacheOptionsEntry) (out []string) {
		for _, c := range list {
			out = append(out, fmt.Sprint(c.Type, " ", c.Attrs["ref"], c.Attrs["src"], c.Attrs["dest"]))
		}
		return out
	}
	for name, tt := range map[string]struct {
		registry string
		status   CacheStatus
		build    plan.Build
		from, to []string
	}{
		"none": {"r.example", CacheNone, plan.Build{}, nil, nil},
		"named": {"r.example", CacheNone, plan.Build{CacheFrom: []string{"a"}, CacheTo: []string{"type=inline"}},
			[]string{"registry a"}, []string{"inline "}},
		"inline": {"r.example", CacheNone, plan.Build{Cache: plan.CacheInline}, []string{"registry r.example/shop:v1"},
			[]string{"inline "}},
		"inline, without a registry": {"", CacheNone, plan.Build{Cache: plan.CacheInline}, nil, nil},
		"registry": {"r.example", CacheFound, plan.Build{Cache: plan.CacheRegistry},
			[]string{"registry r.example/shop:buildcache-web"}, nil},
		"registry, and another": {"r.example", CacheFound, plan.Build{Cache: plan.CacheRegistry, CacheFrom: []string{"b"}},
			[]string{"registry b", "registry r.example/shop:buildcache-web"}, nil},
		"no registry cache yet": {"r.example", CacheMissing, plan.Build{Cache: plan.CacheRegistry}, nil, nil},
		"a refused cache":       {"r.example", CacheRefused, plan.Build{Cache: plan.CacheRegistry}, nil, nil},
		"local":                 {"r.example", CacheFound, plan.Build{Cache: plan.CacheLocal}, []string{"local /cache"}, nil},
	} {
		j := &Job{Image: plan.Image{Containers: []string{"web"}, Repository: "shop", Build: tt.build}, Cache: tt.status,
			CacheFolder: "/cache", Refs: []image.Ref{{Registry: tt.registry, Repository: "shop", Tag: "v1"}}}
		if diff := cmp.Diff(tt.from, entries(j.cacheImports())) + cmp.Diff(tt.to, entries(j.cacheExports())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	img := WithoutExports(plan.Image{Build: plan.Build{Cache: plan.CacheRegistry,
		CacheTo: []string{"type=registry,ref=x", "type=local,dest=y"}}})
	if img.Build.Cache != "" || strings.Join(img.Build.CacheTo, " ") != "type=local,dest=y" {
		t.Errorf("%+v", img.Build)
	}
	if c := cacheEntry("r.example/a"); c.Type != "registry" || c.Attrs["ref"] != "r.example/a" {
		t.Errorf("%+v", c)
	}
}

// TestWantsCacheExport: a cache is written where it lacks something.
func TestWantsCacheExport(t *testing.T) {
	const ran, cached = "[2/2] RUN make", "[2/2] RUN make, found"
	for name, tt := range map[string]struct {
		status CacheStatus
		step   string
		lost   bool
		want   bool
	}{
		"none":                            {CacheNone, ran, false, false},
		"missing":                         {CacheMissing, cached, false, true},
		"refused":                         {CacheRefused, ran, false, false},
		"found, and a step ran":           {CacheFound, ran, false, true},
		"found, and all cached":           {CacheFound, cached, false, false},
		"found, and could not be used":    {CacheFound, cached, true, true},
		"found, and little ran":           {CacheFound, "[2/2] COPY src", false, false},
		"found, and only a base was read": {CacheFound, "[1/2] FROM base", false, false},
	} {
		e := connect(t, &enginetest.Engine{Containerd: true, Build: func(_ context.Context, b *enginetest.Build) (map[string]string,
			error) {
			took := time.Second
			if tt.step != ran {
				took = time.Second / 10
			}
			b.Ran(tt.step, took, tt.step == cached)
			if tt.step == cached { // its layers are fetched
				b.Ran(tt.step, time.Minute, false)
			}
			return nil, nil
		}}, false)
		j := job(t, func(j *Job) { j.Keep, j.Cache, j.Steps = true, tt.status, &Steps{lostCache: tt.lost} })
		if _, err := e.Build(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if got := j.WantsCacheExport(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestBrokenCache: a build that fails by what is in its cache is made without it; one whose
// RUN fails is not tried again.
func TestBrokenCache(t *testing.T) {
	for name, tt := range map[string]struct {
		failure string
		builds  int
	}{
		"a blob that is gone": {"failed to copy: httpReadSeeker: failed open: could not fetch content descriptor sha256:" +
			strings.Repeat("a", 64) + " from remote: not found", 2},
		"a step that fails":        {"process \"make sha256:" + strings.Repeat("a", 64) + "\" did not complete successfully: exit code: 1", 1},
		"a file that is not there": {`failed to compute cache key: "/gone": not found`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var imports []int
			e := connect(t, &enginetest.Engine{Containerd: true, Build: func(_ context.Context, b *enginetest.Build) (map[string]string,
				error) {
				imports = append(imports, len(b.CacheImports))
				if len(b.CacheImports) > 0 {
					return nil, errors.New(tt.failure)
				}
				return nil, nil
			}}, false)
			j := job(t, func(j *Job) {
				j.Keep, j.Cache, j.Image.Build.Cache, j.CacheFolder = true, CacheFound, plan.CacheInline, t.TempDir()
				j.Image.Build.CacheFrom, j.Steps = []string{"r.example/cache"}, &Steps{}
			})
			_, err := e.Build(t.Context(), j)
			if len(imports) != tt.builds || (err == nil) != (tt.builds == 2) {
				t.Errorf("%d builds with %v imports: %v", len(imports), imports, err)
			}
		})
	}
}

// TestExportCache asks for the build once more, with the cache and without an image.
func TestExportCache(t *testing.T) {
	var builds []*enginetest.Build
	answer := map[string]string{"cache.manifest": `{"digest":"` + digest.FromString("manifest").String() + `"}`}
	e := connect(t, &enginetest.Engine{Containerd: true, Build: func(_ context.Context, b *enginetest.Build) (map[string]string,
		error) {
		builds = append(builds, b)
		return answer, nil
	}}, false)
	j := job(t, func(j *Job) {
		j.Cache, j.Image.Build.Cache, j.Image.Build.NoCache = CacheMissing, plan.CacheRegistry, true
		j.Image.Build.CacheTo = []string{"type=inline"}
	})
	if err := e.ExportCache(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if len(builds) != 1 || builds[0].Exporter != "" || strings.Join(builds[0].CacheExports, " ") != "registry" {
		t.Fatalf("%+v", builds)
	}
	if _, ok := builds[0].Attrs["no-cache"]; ok {
		t.Error("the steps run again")
	}
	answer = nil
	if err := e.ExportCache(t.Context(), j); err == nil {
		t.Error("an empty cache is no failure")
	}
}

// TestExportCacheOutdated ends an export that would build.
func TestExportCacheOutdated(t *testing.T) {
	e := connect(t, &enginetest.Engine{Containerd: true, Build: func(ctx context.Context, b *enginetest.Build) (map[string]string,
		error) {
		b.Step("[2/3] RUN make")
		b.End("[2/3] RUN make", "")
		<-ctx.Done()
		return nil, ctx.Err()
	}}, false)
	j := job(t, func(j *Job) { j.Cache, j.Image.Build.Cache = CacheMissing, plan.CacheRegistry })
	if err := e.ExportCache(t.Context(), j); !errors.Is(err, ErrOutdated) {
		t.Errorf("%v", err)
	}
}

func TestFindLocalCache(t *testing.T) {
	const layer = "a layer"
	d := digest.FromString(layer)
	manifest := fmt.Sprintf(`{"layers":[{"digest":%q,"size":%d}]}`, d, len(layer))
	m := digest.FromString(manifest)
	index := fmt.Sprintf(`{"manifests":[{"digest":%q,"size":%d}]}`, m, len(manifest))
	whole := map[string]string{"index.json": index, "blobs/sha256/" + m.Encoded(): manifest, "blobs/sha256/" + d.Encoded(): layer}
	for name, tt := range map[string]struct {
		change map[string]string // "" for no such file
		status CacheStatus
		broken bool
	}{
		"whole":         {nil, CacheFound, false},
		"none":          {map[string]string{"index.json": ""}, CacheMissing, false},
		"no JSON":       {map[string]string{"index.json": "nonsense"}, CacheMissing, true},
		"names nothing": {map[string]string{"index.json": "{}"}, CacheMissing, true},
		"leads out":     {map[string]string{"index.json": `{"manifests":[{"digest":"sha256:../../../etc/passwd"}]}`}, CacheMissing, true},
		"no manifest":   {map[string]string{"blobs/sha256/" + m.Encoded(): ""}, CacheMissing, true},
		"no layer":      {map[string]string{"blobs/sha256/" + d.Encoded(): ""}, CacheMissing, true},
		"another layer": {map[string]string{"blobs/sha256/" + d.Encoded(): "b layer"}, CacheMissing, true},
		"a layer's end": {map[string]string{"blobs/sha256/" + d.Encoded(): "a la"}, CacheMissing, true},
	} {
		dir := t.TempDir()
		for file, text := range whole {
			if changed, ok := tt.change[file]; ok {
				text = changed
			}
			path := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if text == "" {
				continue
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := FindLocalCache(t.Context(), dir); got != tt.status || (err != nil) != tt.broken {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
