package builder

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// TestCheck: what an engine cannot do is refused before anything is built.
func TestCheck(t *testing.T) {
	level := 1
	classic, old := &Engine{Store: Classic, Version: "28.5.2"}, &Engine{Store: Classic, Version: "20.10.24"}
	containerd := &Engine{Store: Containerd, Version: "25.0.0"}
	for name, tt := range map[string]struct {
		engine *Engine
		build  plan.Build
		key    string // that is refused, "" for none
		warns  bool
	}{
		"nothing special": {classic, plan.Build{}, "", false},
		"two platforms": {classic, plan.Build{Platforms: []string{"linux/amd64", "linux/arm64"}},
			"platforms with more than one entry", false},
		"two platforms, containerd": {containerd, plan.Build{Platforms: []string{"linux/amd64", "linux/arm64"}}, "", false},
		"a cache in a registry": {classic, plan.Build{CacheTo: []string{"type=registry,ref=x"}},
			"cache_to of type registry", false},
		"an inline cache": {classic, plan.Build{CacheTo: []string{"type=inline"}}, "", false},
		"cache: registry": {classic, plan.Build{Cache: plan.CacheRegistry}, "cache: registry", false},
		"inline and own compression": {classic, plan.Build{Cache: plan.CacheInline, CompressionLevel: &level},
			"an inline cache with compression, compression_level or reproducible", false},
		"reproducible": {containerd, plan.Build{Reproducible: true}, "reproducible", false},
		"contexts, old": {old, plan.Build{AdditionalContexts: map[string]string{"a": "/b"}},
			"additional_contexts", false},
		"two caches, old": {old, plan.Build{CacheTo: []string{"type=inline", "type=inline"}},
			"cache_to with more than one entry", false},
		"shm_size, old": {old, plan.Build{ShmSize: 1}, "", true},
	} {
		warned := false
		err := tt.engine.Check(plan.Image{Containers: []string{"web"}, Build: tt.build}, func(string) { warned = true })
		var u *UnsupportedError
		key := ""
		if errors.As(err, &u) {
			key = u.Key
		}
		if key != tt.key || warned != tt.warns {
			t.Errorf("%s: %v, warned %v", name, err, warned)
		}
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	var e *fault.Error
	if err := classic.Check(plan.Image{Containers: []string{"web"}, Build: plan.Build{SSH: []string{"default"}}},
		nil); !errors.As(err, &e) {
		t.Errorf("no agent: %v", err)
	}
}

// TestSourcePolicy needs an engine that knows it.
func TestSourcePolicy(t *testing.T) {
	e := &Engine{Store: Classic, Version: "20.10.24"}
	if err := e.UseSourcePolicy(""); err != nil || e.policy != nil {
		t.Errorf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "policy.json")
	var f *fault.Error
	if err := e.UseSourcePolicy(file); !errors.As(err, &f) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(file, []byte(`{"rules":[{"action":"DENY","selector":{"identifier":"docker-image://docker.io/*"}}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := e.UseSourcePolicy(file); err != nil || len(e.policy.Rules) != 1 {
		t.Errorf("%v", err)
	}
	var u *UnsupportedError
	if err := e.Check(plan.Image{Containers: []string{"web"}}, nil); !errors.As(err, &u) {
		t.Errorf("%v", err)
	}
}

func TestExportAttrs(t *testing.T) {
	level := 9
	for name, tt := range map[string]struct {
		build plan.Build
		want  map[string]string
	}{
		"plain": {plan.Build{}, map[string]string{"tar": "false"}},
		"zstd": {plan.Build{Compression: plan.Zstd},
			map[string]string{"tar": "false", "compression": "zstd", "oci-mediatypes": "true"}},
		"a level": {plan.Build{Compression: plan.Gzip, CompressionLevel: &level},
			map[string]string{"tar": "false", "compression": "uncompressed"}},
		"reproducible": {plan.Build{Reproducible: true},
			map[string]string{"tar": "false", "rewrite-timestamp": "true", "source-date-epoch": "0"}},
	} {
		if diff := cmp.Diff(tt.want, exportAttrs(tt.build)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
