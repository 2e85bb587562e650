package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestKeepPlatforms: a part of a build has some platforms of those images that have them.
func TestKeepPlatforms(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ecsbuild.yml"), []byte(`tag: v1
images:
  - {container: both, repository: aa, platforms: [linux/amd64, linux/arm64]}
  - {container: arm, repository: bb, platforms: [linux/arm64/v8]}
  - {container: any, repository: cc}
  - {container: amd, repository: dd, platforms: [linux/amd64]}
  - {container: on, repository: ee, platforms: [linux/arm64], additional_contexts: {base: "service:both"}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(platforms ...string) ([]string, []string, error) {
		p, err := Load(Options{Directory: dir, Platforms: platforms, Environ: []string{"AWS_REGION=eu-west-1"}})
		var names []string
		for _, img := range p.Images {
			names = append(names, img.PartName()+" "+strings.Join(img.Build.Platforms, ","))
		}
		return names, p.Notes, err
	}
	got, notes, err := load("linux/arm64/v8")
	if err != nil || !slices.Equal(got, []string{"both linux/arm64 linux/arm64", "arm linux/arm64/v8", "on linux/arm64"}) {
		t.Errorf("%q %v", got, err)
	}
	for _, want := range []string{"left out with --platform: any, which names no platforms",
		"left out with --platform: amd, which is for linux/amd64"} {
		if !slices.Contains(notes, want) {
			t.Errorf("%q", notes)
		}
	}
	got, _, err = load("linux/amd64", "linux/arm64")
	if err != nil || !slices.Contains(got, "both linux/amd64,linux/arm64") {
		t.Errorf("%q %v", got, err)
	}
	for platform, want := range map[string]string{
		"arm64":       "--platform arm64: this is no platform",
		"linux/s390x": "--platform linux/s390x: no image has this platform",
	} {
		if _, _, err := load(platform); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", platform, err)
		}
	}
}
