package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOnly keeps images by container and by name.
func TestOnly(t *testing.T) {
	for name, tt := range map[string]struct {
		only []string
		want string
	}{
		"a container":            {[]string{"b"}, "a=one:v1 imagedefinitions.json[{b a }{envoy  nginx}]"},
		"an image by itself":     {[]string{"two"}, "two=two:v1"},
		"a repository is a name": {[]string{"two", "a"}, "a=one:v1 two=two:v1 imagedefinitions.json[{a a }{b a }{envoy  nginx}]"},
		"nobody":                 {[]string{"three"}, "--only three: there is no such image; the images are a, b, two"},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"Dockerfile": "", "ecsbuild.yml": "images:\n  - {containers: [a, b], repository: one}\n  - {repository: two}\ndefinitions: [{also: {envoy: nginx}}]\n"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		p, err := Load(Options{Directory: dir, Environ: []string{"IMAGE_TAG=v1"}, Only: tt.only})
		got := fmt.Sprint(err)
		if err == nil {
			got = summary(p)
		}
		if got != tt.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestOnlyWithoutBase: an image is not built without the one that it is built on.
func TestOnlyWithoutBase(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{"Dockerfile": "",
		"ecsbuild.yml": "images:\n  - {container: app, repository: one}\n  - {container: web, repository: two, additional_contexts: {base: 'service:app'}}\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Load(Options{Directory: dir, Environ: []string{"IMAGE_TAG=v1"}, Only: []string{"web"}})
	if want := "--only leaves out app, which web is built on; add --only app"; fmt.Sprint(err) != want {
		t.Errorf("%v", err)
	}
	for _, only := range [][]string{{"app"}, {"web", "app"}} {
		if p, err := Load(Options{Directory: dir, Environ: []string{"IMAGE_TAG=v1"}, Only: only}); err != nil ||
			len(p.Images) != len(only) {
			t.Errorf("%v: %v", only, err)
		}
	}
}

// TestSubstring: as bash has it.
func TestSubstring(t *testing.T) {
	env := lookup(map[string]string{"V": "0123456789", "E": ""})
	for in, want := range map[string]string{"${V:0:7}": "0123456", "${V::7}": "0123456", "${V:3}": "3456789", "${V: -3}": "789",
		"${V: -3:2}": "78", "${V:2:-2}": "234567", "${V:5:99}": "56789", "${V:99}": "", "${V: -99}": "", "${V:8:-5}": "", "${E:0:7}": "",
		"${V:-x}": "0123456789", "${E:-3}": "3"} {
		if got, _, err := interpolate(in, env); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"${V:}", "${V:0:}", "${V:a}", "${V:0:1:2}"} {
		if got, _, err := interpolate(in, env); err == nil {
			t.Errorf("%s is %q", in, got)
		}
	}
	if _, unset, _ := interpolate("${X:0:7}", env); !slices.Equal(unset, []string{"X"}) {
		t.Errorf("%v", unset)
	}
}

// TestLeftOut: the files and secrets of images that are left out need not be there, nor any where
// nothing is built.
func TestLeftOut(t *testing.T) {
	dir := t.TempDir()
	yaml := "images:\n  - {container: web, repository: one}\n  - {container: job, repository: two, context: far,\n" +
		"     secrets: {npm: 'env:NPM'}}\n"
	for file, text := range map[string]string{"Dockerfile": "", "ecsbuild.yml": yaml} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		options Options
		environ []string
		want    string
	}{
		"all":                  {Options{}, nil, "ecsbuild.yml:4:21: secrets.npm: the variable NPM is not set"},
		"the other one":        {Options{Only: []string{"web"}}, nil, "<nil>"},
		"that one":             {Options{Only: []string{"job"}}, nil, "ecsbuild.yml:4:21: secrets.npm: the variable NPM is not set"},
		"without its files":    {Options{Only: []string{"job"}}, []string{"NPM=x"}, "far is not a folder"},
		"an empty variable":    {Options{Only: []string{"job"}}, []string{"NPM="}, "far is not a folder"},
		"nothing is built":     {Options{UnsetSecrets: true, NoSources: true}, nil, "<nil>"},
		"nothing, and secrets": {Options{NoSources: true}, nil, "the variable NPM is not set"},
	} {
		tt.options.Directory, tt.options.Environ = dir, append(tt.environ, "IMAGE_TAG=v1")
		if _, err := Load(tt.options); !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
