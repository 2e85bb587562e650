package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// TestExternal reads Dockerfiles for the images that they take something from;
// where that cannot be known the answer is "unknown".
func TestExternal(t *testing.T) {
	pin := "@sha256:" + strings.Repeat("0", 64)
	for _, tt := range []struct {
		name, dockerfile string
		build            plan.Build
		want             string
	}{
		{"scratch", "FROM scratch\n", plan.Build{}, ""},
		{"a tag is latest", "FROM alpine\n", plan.Build{}, "docker.io/library/alpine:latest"},
		{"stages", "FROM a AS x\nFROM x\nCOPY --from=x /f /\nCOPY --from=0 /f /\n", plan.Build{}, "docker.io/library/a:latest"},
		{"copied from", "FROM scratch\nCOPY --from=ghcr.io/o/tool:1 /t /\n", plan.Build{}, "ghcr.io/o/tool:1"},
		{"mounted from", "FROM scratch\nRUN --mount=type=bind,from=tool:2,target=/t true\n", plan.Build{}, "docker.io/library/tool:2"},
		{"pinned", "FROM alpine" + pin + "\n", plan.Build{}, ""},
		{"a variable's default", "ARG V=3\nFROM alpine:$V\n", plan.Build{}, "docker.io/library/alpine:3"},
		{"a variable of another", "ARG V=3\nARG W=${V}.1\nFROM alpine:${W}\n", plan.Build{}, "docker.io/library/alpine:3.1"},
		{"a variable's value", "ARG V=3\nFROM alpine:$V\n", plan.Build{Args: map[string]string{"V": "4"}}, "docker.io/library/alpine:4"},
		{"a variable that names a stage", "ARG S=x\nFROM a AS x\nFROM $S\n", plan.Build{}, "docker.io/library/a:latest"},
		{"a variable without value", "ARG V\nFROM alpine:$V\n", plan.Build{}, "unknown"},
		{"a variable of the platform", "FROM alpine:$TARGETARCH\n", plan.Build{}, "unknown"},
		{"the usual syntax", "# syntax=docker/dockerfile:1\nFROM scratch\n", plan.Build{}, "docker.io/docker/dockerfile:1"},
		{"an old syntax", "# syntax=docker/dockerfile:1.0\nFROM scratch\n", plan.Build{}, "unknown"},
		{"an exact syntax", "# syntax=docker/dockerfile:1.7.1-labs\nFROM scratch\n", plan.Build{}, "docker.io/docker/dockerfile:1.7.1-labs"},
		{"a syntax that is an argument", "FROM scratch\n", plan.Build{Args: map[string]string{"BUILDKIT_SYNTAX": "acme/frontend"}}, "unknown"},
		{"another syntax", "# syntax=acme/frontend\nFROM scratch\n", plan.Build{}, "unknown"},
		{"added from the context", "FROM scratch\nADD a.tar /\n", plan.Build{}, ""},
		{"fetched", "FROM scratch\nADD https://example.com/a /\n", plan.Build{}, "unknown"},
		{"fetched from git", "FROM scratch\nADD git@github.com:o/r.git /\n", plan.Build{}, "unknown"},
		{"fetched from git by another user", "FROM scratch\nADD deploy@example.com:o/r.git /\n", plan.Build{}, "unknown"},
		{"perhaps fetched", "FROM scratch\nARG U\nADD $U /\n", plan.Build{}, "unknown"},
		{"a context of another name", "FROM base\n", plan.Build{AdditionalContexts: map[string]string{"base": "/here"}}, ""},
		{"a context that is an image", "FROM base\n", plan.Build{AdditionalContexts: map[string]string{"base": "docker-image://alpine:3"}}, "docker.io/library/alpine:3"},
		{"a context that is fetched", "FROM base\n", plan.Build{AdditionalContexts: map[string]string{"base": "https://example.com/x.git"}}, "unknown"},
		{"no Dockerfile", "FRUM scratch\n", plan.Build{}, "unknown"},
	} {
		refs, _, err := external([]byte(tt.dockerfile), tt.build)
		got := strings.Join(refs, " ")
		if err != nil {
			got = "unknown"
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// amd64 is an engine of that platform, with no image.
type amd64 struct{}

func (amd64) Platform(context.Context) (string, error)             { return "linux/amd64", nil }
func (amd64) LocalDigests(context.Context, string) (none []string) { return none }

// TestInputs changes one thing after the other: the hash must change with each
// that changes the image, and with no other.
func TestInputs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("app/Dockerfile", "FROM alpine\nCOPY . /\n", 0o644)
	write("app/f", "one", 0o644)
	write("extra/f", "one", 0o644)
	base := digest.FromString("one")
	img := plan.Image{Containers: []string{"web"}, Build: plan.Build{Context: filepath.Join(dir, "app"), Dockerfile: filepath.Join(dir, "app/Dockerfile")}}
	hash := func() string {
		t.Helper()
		h := NewHasher(amd64{}, func(context.Context, string) (digest.Digest, error) { return base, nil })
		in, err := h.Of(t.Context(), img)
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
		{"a link", func() { _ = os.Symlink("f", filepath.Join(dir, "app/l")) }, true},
		{"a base image", func() { base = digest.FromString("two") }, true},
		{"an argument", func() { img.Build.Args = map[string]string{"A": "1"} }, true},
		{"a label", func() { img.Build.Labels = map[string]string{"a": "b"} }, true},
		{"the target", func() { img.Build.Target = "x" }, true},
		{"the platform", func() { img.Build.Platforms = []string{"linux/arm64"} }, true},
		{"the network", func() { img.Build.Network = "none" }, true},
		{"another host", func() { img.Build.ExtraHosts = []string{"db=10.0.0.1"} }, true},
		{"a secret's name", func() { img.Build.Secrets = map[string]plan.Source{"s": {Kind: plan.FromEnv, Name: "S"}} }, true},
		{"a secret's value", func() {
			img.Build.Secrets["s"] = plan.Source{Kind: plan.FromEnv, Name: "S", Value: plan.NewSecret("x")}
		}, false},
		{"an agent", func() { img.Build.SSH = []string{"default=/a"} }, true},
		{"where it listens", func() { img.Build.SSH = []string{"default=/b"} }, false},
		{"another context", func() { img.Build.AdditionalContexts = map[string]string{"extra": filepath.Join(dir, "extra")} }, true},
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
