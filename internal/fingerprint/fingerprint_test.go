package fingerprint

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/dockerfile"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// amd64 is an engine of that platform, with no image.
type amd64 struct{ policy bool }

func (e amd64) HasSourcePolicy() bool { return e.policy }

func (amd64) Platform(context.Context) (string, error)             { return "linux/amd64", nil }
func (amd64) LocalDigests(context.Context, string) (none []string) { return none }

// TestInputs changes one thing after the other: the hash must change with each
// that changes the image, and with no other.
func TestInputs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode),
			os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("app/Dockerfile", "FROM alpine\nCOPY . /\n", 0o644)
	write("app/f", "one", 0o644)
	write("extra/f", "one", 0o644)
	base := digest.FromString("one")
	img := plan.Image{Containers: []string{"web"},
		Build: plan.Build{Context: filepath.Join(dir, "app"), Dockerfile: filepath.Join(dir, "app/Dockerfile")}}
	hash := func() string {
		t.Helper()
		h := NewHasher(amd64{}, func(context.Context, string) (digest.Digest, error) { return base, nil },
			[]string{filepath.Join(dir, "app/kept"), filepath.Join(dir, "moved/kept")})
		file, err := dockerfile.Read(img)
		if err != nil {
			t.Fatal(err)
		}
		in, err := h.Of(t.Context(), img, file)
		if err != nil {
			t.Fatal(err)
		}
		return in.Hash
	}
	level := 3
	last := hash()
	for _, step := range []struct {
		name    string
		do      func()
		changes bool
	}{
		{"nothing", func() {}, false},
		{"a file's content", func() { write("app/f", "two", 0o644) }, true},
		{"a file's mode", func() { write("app/f", "two", 0o600) }, true},
		{"a new file", func() { write("app/sub/g", "", 0o644) }, true},
		{"what is ignored", func() { write("app/.dockerignore", "h\n", 0o644) }, true}, // itself is a file
		{"an ignored file", func() { write("app/h", "x", 0o644) }, false},
		{"a file of the run", func() { write("app/kept/record.json", "x", 0o644) }, false},
		{"a link", func() { _ = os.Symlink("f", filepath.Join(dir, "app/l")) }, true},
		{"a base image", func() { base = digest.FromString("two") }, true},
		{"an argument", func() { img.Build.Args = map[string]string{"A": "1"} }, true},
		{"a label", func() { img.Build.Labels = map[string]string{"a": "b"} }, true},
		{"the target", func() { img.Build.Target = "x" }, true},
		{"the platform", func() { img.Build.Platforms = []string{"linux/arm64"} }, true},
		{"the network", func() { img.Build.Network = "none" }, true},
		{"another host", func() { img.Build.ExtraHosts = []string{"db=10.0.0.1"} }, true},
		{"a secret's name", func() { img.Build.Secrets = map[string]plan.Source{"s": {Kind: plan.FromEnv, Name: "S"}} },
			true},
		{"a secret's value", func() {
			img.Build.Secrets["s"] = plan.Source{Kind: plan.FromEnv, Name: "S", Value: plan.NewSecret("x")}
		}, false},
		{"an agent", func() { img.Build.SSH = []string{"default=/a"} }, true},
		{"where it listens", func() { img.Build.SSH = []string{"default=/b"} }, false},
		{"another context", func() { img.Build.AdditionalContexts = map[string]string{"extra": filepath.Join(dir, "extra")} },
			true},
		{"a file of it", func() { write("extra/f", "two", 0o644) }, true},
		{"compression", func() { img.Build.Compression = plan.Zstd }, true},
		{"its level", func() { img.Build.CompressionLevel = &level }, true},
		{"reproducible", func() { img.Build.Reproducible = true }, true},
		{"a cache", func() { img.Build.CacheFrom = []string{"x"} }, false},
		{"the folder of the checkout", func() {
			if err := os.Rename(filepath.Join(dir, "app"), filepath.Join(dir, "moved")); err != nil {
				t.Fatal(err)
			}
			img.Build.Context, img.Build.Dockerfile = filepath.Join(dir, "moved"), filepath.Join(dir, "moved/Dockerfile")
		}, false},
	} {
		step.do()
		now := hash()
		if (now != last) != step.changes {
			t.Errorf("%s: the hash changes: %v, want %v", step.name, now != last, step.changes)
		}
		last = now
	}
}

// TestDockerfileChanges: one that changes after it was read does not go with a context
// that was read later.
func TestDockerfileChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "Dockerfile")
	for name, text := range map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", ".dockerignore": "Dockerfile\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img := plan.Image{Containers: []string{"web"}, Build: plan.Build{Context: dir, Dockerfile: path}}
	file, err := dockerfile.Read(img)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("FROM scratch\nCOPY b /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var refused *UncacheableError
	if _, err := NewHasher(amd64{policy: true}, nil, nil).Of(t.Context(), img, file); !errors.As(err, &refused) {
		t.Errorf("under a source policy: %v", err)
	}
	if _, err := NewHasher(amd64{}, nil, nil).Of(t.Context(), img, file); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
}
