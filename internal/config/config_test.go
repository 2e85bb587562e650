package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

var update = os.Getenv("UPDATE") != ""

// golden compares got with a file, or writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func lookup(env map[string]string) func(string) (string, bool) {
	return variables(env).lookup
}

// TestStrictErrors reads every broken file of testdata/errors; the golden file
// beside it has the error, with its line and column.
func TestStrictErrors(t *testing.T) {
	files, _ := filepath.Glob("testdata/errors/*.yml")
	if len(files) < 20 {
		t.Fatalf("only %d files", len(files))
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			_, err = parse(f, data, lookup(map[string]string{"EMPTY": "", "SET": "x"}), unsetRefused)
			if err == nil {
				t.Fatal("no error")
			}
			var e *fault.Error
			if !errors.As(err, &e) || !strings.Contains(e.Place, ":") {
				t.Errorf("%v names no place", err)
			}
			golden(t, strings.TrimSuffix(f, ".yml")+".golden", err.Error()+"\n")
		})
	}
}

// TestGoodFiles resolves every file of testdata/good.
func TestGoodFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/good/*.yml")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			dir := t.TempDir()
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"Dockerfile", "docker/php/Dockerfile", "docker/nginx/Dockerfile", "extra/x"} {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "ecsbuild.yml"), data, 0o644); err != nil {
				t.Fatal(err)
			}
			p, err := Load(Options{Directory: dir, Environ: []string{"IMAGE_TAG=v7", "HUB_PASSWORD=hunter2", "FROM_ENV=set"}})
			if err != nil {
				t.Fatal(err)
			}
			out, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(string(out), dir, "DIR")
			if strings.Contains(text, "hunter2") || strings.Contains(fmt.Sprintf("%+v %#v %v", *p, *p, p.Logins), "hunter2") {
				t.Error("the plan prints a secret")
			}
			golden(t, strings.TrimSuffix(f, ".yml")+".golden", text+"\n")
		})
	}
}

func TestInterpolate(t *testing.T) {
	env := lookup(map[string]string{"A": "1", "EMPTY": "", "B": "two"})
	for in, want := range map[string]string{
		"plain": "plain", "$A-${B}": "1-two", "$$A": "$A", "$${A}": "${A}",
		"${X:-d}": "d", "${EMPTY:-d}": "d", "${EMPTY-d}": "", "${X-d}": "d", "${A:-d}": "1",
		"${A:+yes}": "yes", "${X:+yes}": "", "${EMPTY:+yes}": "", "${EMPTY+yes}": "yes",
		"${X:-${B}}": "two", "${X:-${Y:-deep}}": "deep", "${A:?no}": "1", "${X}": "", "é$A": "é1",
	} {
		if got, _, err := interpolate(in, env); err != nil || got != want {
			t.Errorf("%q gives %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"$", "${", "${A", "${}", "$-", "${A*b}", "${X:?}", "${X?message}"} {
		if got, _, err := interpolate(in, env); err == nil {
			t.Errorf("%q gives %q and no error", in, got)
		}
	}
	if _, unset, _ := interpolate("$X $A ${Y}", env); fmt.Sprint(unset) != "[X Y]" {
		t.Errorf("unset is %v", unset)
	}
}

// TestBuildCache: an image's own variable, else the one for all.
func TestBuildCache(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	base := []string{"IMAGE_TAG=v1", "IMAGE_REPO_NAME_1=shop/a", "CONTAINER_NAME_1=a", "IMAGE_REPO_NAME_2=shop/b", "CONTAINER_NAME_2=b"}
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"none":           {nil, " "},
		"for all":        {[]string{"BUILD_CACHE=local"}, "local local"},
		"one of its own": {[]string{"BUILD_CACHE=local", "BUILD_CACHE_2=registry"}, "local registry"},
		"for one alone":  {[]string{"BUILD_CACHE_1=inline"}, "inline "},
		"something else": {[]string{"BUILD_CACHE_2=tape"}, `BUILD_CACHE_2: "tape" is not understood; set it to registry, local or inline`},
	} {
		p, err := Load(Options{Directory: dir, Environ: append(slices.Clone(base), tt.env...)})
		got := fmt.Sprint(err)
		if err == nil {
			got = string(p.Images[0].Build.Cache) + " " + string(p.Images[1].Build.Cache)
		}
		if got != tt.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	p, err := loadIn(t, `images:
  - {container: a, repository: shop/a}
  - {container: b, repository: shop/b, cache: inline}
  - {container: c, repository: shop/c, cache_to: ["type=registry,ref=x/y:z"]}
`, "IMAGE_TAG=v1", "BUILD_CACHE=local")
	if err != nil || p.Images[0].Build.Cache != plan.CacheLocal || p.Images[1].Build.Cache != plan.CacheInline ||
		p.Images[2].Build.Cache != "" {
		t.Errorf("with a file: %+v, %v", p, err)
	}
	p, err = loadIn(t, `images:
  - {container: a, repository: shop/a, args: {BUILDKIT_INLINE_CACHE: "1"}}
  - {container: b, repository: shop/b, args: {BUILDKIT_INLINE_CACHE: "0"}}
`, "IMAGE_TAG=v1")
	if err != nil || fmt.Sprint(p.Images[0].Build.CacheTo, p.Images[1].Build.CacheTo) != "[type=inline] []" {
		t.Errorf("BUILDKIT_INLINE_CACHE: %+v, %v", p, err)
	}
	file := "images: [{container: a, repository: shop/a}]\n"
	if _, err := loadIn(t, file, "IMAGE_TAG=v1", "BUILD_CACHE=tape"); err == nil {
		t.Error("with a file: a cache that there is not is taken")
	}
}

// TestUnsetVariable: what is wrong with a text may come from a variable that is not set.
func TestUnsetVariable(t *testing.T) {
	_, err := loadIn(t, "images: [{container: web, repository: \"${A}/${B}${C}\"}]\n", "IMAGE_TAG=v1", "A=shop")
	want := `ecsbuild.yml:1:39: B and C are not set: "shop/" is not a repository name; ` +
		"set B and C as the build has them, or write a default, as in ${B:-…}"
	if fmt.Sprint(err) != want {
		t.Errorf("%v", err)
	}
}

// TestCacheTags: no cache is written over a tag of the run, nor over another cache.
func TestCacheTags(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("x", 120)
	for name, tt := range map[string]struct{ images, want string }{
		"its own tag":   {`[{container: web, repository: shop, tags: [buildcache-web], cache: registry}]`, "shop:buildcache-web"},
		"another's tag": {`[{container: web, repository: shop, tags: [v1], cache: registry}, {container: app, repository: shop, tags: [v2, buildcache-web]}]`, "shop:buildcache-web"},
		"mounts":        {`[{container: web, repository: shop, tags: [cachemounts-web], cache_mounts: true}]`, "shop:cachemounts-web"},
		"two long names": {fmt.Sprintf(`[{container: %sa, repository: shop, tags: [v1], cache: registry}, {container: %sb, repository: shop, tags: [v2], cache: registry}]`,
			long, long), ""},
		"a part's cache": {`[{container: x, repository: shop, tags: [x], cache: registry, platforms: [linux/amd64, linux/arm64]}, {container: z, repository: shop, tags: [buildcache-x.linux-arm64]}]`,
			"shop:buildcache-x.linux-arm64"},
		"a local cache":      {`[{container: web, repository: shop, tags: [buildcache-web], cache: local}]`, ""},
		"another repository": {`[{container: web, repository: shop, tags: [v1], cache: registry}, {container: app, repository: other, tags: [buildcache-web]}]`, ""},
	} {
		for file, text := range map[string]string{"ecsbuild.yml": "images: " + tt.images, "Dockerfile": ""} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Load(Options{Directory: dir})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTagFromCommit(t *testing.T) {
	const a, b, c = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "cccccccccccccccccccccccccccccccccccccccc"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	base := []string{"IMAGE_REPO_NAME=shop", "CONTAINER_NAME=web"}
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"given":               {[]string{"IMAGE_TAG=v1", "GITHUB_SHA=" + b}, "v1"},
		"CodeBuild":           {[]string{"CODEBUILD_RESOLVED_SOURCE_VERSION=" + a, "GITHUB_SHA=" + b}, a[:12]},
		"an S3 source":        {[]string{"CODEBUILD_RESOLVED_SOURCE_VERSION=Xk3_version.id", "GITHUB_SHA=" + b}, b[:12]},
		"the checkout":        {nil, c[:12]},
		"empty is unset, too": {[]string{"IMAGE_TAG="}, c[:12]},
	} {
		p, err := Load(Options{Directory: dir, Environ: append(base, tt.env...), Commit: func() string { return c }})
		if err != nil || p.Images[0].Tags[0] != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

func TestRegions(t *testing.T) {
	for _, r := range append(regions, "ap-northeast-9", "us-gov-west-3") {
		if err := checkRegion(r); err != nil {
			t.Errorf("%s: %v", r, err)
		}
	}
	for r, meant := range map[string]string{"p-northeast-1": "ap-northeast-1", "ap-northeest-1": "ap-northeast-1",
		"us-est-1": "us-east-1", "us-east1": "us-east-1", "eu-west-1a": "eu-west-1", "EU-WEST-1": "eu-west-1"} {
		err := checkRegion(r)
		if err == nil || !strings.Contains(err.Fix, "did you mean "+meant) {
			t.Errorf("%s: %v, want a word on %s", r, err, meant)
		}
	}
}

func FuzzYAML(f *testing.F) {
	for _, pat := range []string{"testdata/errors/*.yml", "testdata/good/*.yml"} {
		files, _ := filepath.Glob(pat)
		for _, file := range files {
			data, _ := os.ReadFile(file)
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := parse("ecsbuild.yml", data, lookup(nil), unsetRefused)
		var e *fault.Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%T: %v", err, err)
		}
	})
}

func FuzzInterpolate(f *testing.F) {
	for _, s := range []string{"${A:-${B}}", "$$", "${A:?x}", "$A$B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if out, _, err := interpolate(s, lookup(nil)); err == nil && !strings.Contains(s, "$") && out != s {
			t.Errorf("%q became %q", s, out)
		}
	})
}

func FuzzEnvironment(f *testing.F) {
	f.Add("IMAGE_REPO_NAME_1=a\nCONTAINER_NAME_1=b\nIMAGE_TAG=x")
	f.Add("IMAGE_REPO_NAME_99999999999999999999=a")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, env string) {
		_, err := Load(Options{Directory: dir, Environ: strings.Split(env, "\n")})
		var e *fault.Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%T: %v", err, err)
		}
	})
}
