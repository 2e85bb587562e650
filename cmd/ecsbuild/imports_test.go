package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImports holds the packages to who may import whom.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "../../...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	const module = "github.com/ecsbuild/ecsbuild/"
	ours := map[string][]string{
		"plan":          {},
		"config":        {"plan"},
		"imagedef":      {},
		"artifact":      {},
		"hoststate":     {},
		"localregistry": {},
		"image":         {},
		"layer":         {"plan", "image"},
		"dockerfile":    {"plan"},
		"fingerprint":   {"plan", "image", "dockerfile"},
		"progress":      {},
		"dockerconfig":  {"plan"},
		"registry":      {"plan", "progress"},
		"baseimage":     {"plan", "registry", "hoststate"},
		"dockerpush":    {"plan", "image", "layer", "fingerprint", "hoststate", "progress"},
		"ociexport":     {"plan", "image", "layer", "fingerprint", "hoststate"},
		"builder":       {"plan", "image", "layer", "dockerfile", "fingerprint", "hoststate", "dockerpush", "ociexport", "progress", "dockerconfig"},
		"pipeline":      {"plan", "image", "registry", "baseimage", "builder", "fingerprint", "imagedef", "progress", "artifact", "dockerconfig", "hoststate"},
		"diagnose":      {"plan", "registry", "baseimage", "builder", "dockerfile", "layer", "pipeline", "artifact"},
		"awsrig":        {"localregistry", "registry"},
		"fault":         {},
		"redact":        {},
	}
	everybody := []string{"fault", "redact"} // may import these
	theirs := map[string][]string{
		"github.com/aws/":                         {"registry"},
		"github.com/moby/buildkit/":               {"builder", "dockerfile", "progress", "pipeline"},
		"github.com/moby/moby/":                   {"builder", "dockerpush"},
		"github.com/google/go-containerregistry/": {"registry", "baseimage", "localregistry", "awsrig"},
		"github.com/docker/docker":                nil,
		"github.com/docker/buildx":                nil,
		"github.com/docker/cli":                   nil,
	}
	seen := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Fields(line)
		name, internal := strings.CutPrefix(fields[0], module+"internal/")
		if !internal {
			continue
		}
		seen++
		allowed, known := ours[name]
		if !known {
			t.Errorf("package %s is new: say here what it may import", name)
		}
		for _, imp := range fields[1:] {
			if other, ok := strings.CutPrefix(imp, module+"internal/"); ok && !slices.Contains(allowed, other) && !slices.Contains(everybody, other) {
				t.Errorf("%s imports %s", name, other)
			}
			for prefix, who := range theirs {
				if strings.HasPrefix(imp, prefix) && !slices.Contains(who, name) {
					t.Errorf("%s imports %s", name, imp)
				}
			}
		}
	}
	if seen != len(ours) {
		t.Errorf("%d packages were seen, %d have rules", seen, len(ours))
	}
}
