package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOnly keeps images by container and by name.
func TestOnly(t *testing.T) {
	for name, tt := range map[string]struct {
		only []string
		want string
	}{
		"a container":        {[]string{"b"}, "a=one:v1 imagedefinitions.json[{b a }{envoy  nginx}]"},
		"an image by itself": {[]string{"two"}, "two=two:v1"},
		"a repository is a name": {[]string{"two", "a"},
			"a=one:v1 two=two:v1 imagedefinitions.json[{a a }{b a }{envoy  nginx}]"},
		"nobody": {[]string{"three"}, "--only three: there is no such image; the images are a, b, two"},
	} {
		dir := t.TempDir()
		yaml := "images:\n  - {containers: [a, b], repository: one}\n  - {repository: two}\n" +
			"definitions: [{also: {envoy: nginx}}]\n"
		for file, text := range map[string]string{"Dockerfile": "", "ecsbuild.yml": yaml} {
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
	yaml := "images:\n  - {container: app, repository: one}\n" +
		"  - {container: web, repository: two, additional_contexts: {base: 'service:app'}}\n"
	for file, text := range map[string]string{"Dockerfile": "", "ecsbuild.yml": yaml} {
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

// TestLeftOut: the files and secrets of images that are left out need not be there, nor any where
// nothing is built.
func TestLeftOut(t *testing.T) {
	const unset = "ecsbuild.yml:4:21: secrets.npm: the variable NPM is not set"
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
		"all":                  {Options{}, nil, unset},
		"the other one":        {Options{Only: []string{"web"}}, nil, "<nil>"},
		"that one":             {Options{Only: []string{"job"}}, nil, unset},
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
