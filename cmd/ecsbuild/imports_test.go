package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestImports holds the packages to who may import whom.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "../../...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	const module = "github.com/ecsbuild/ecsbuild/"
	ours := map[string][]string{
		"fault":         {},
		"redact":        {},
		"format":        {},
		"atomicfile":    {},
		"plan":          {},
		"config":        {"plan"},
		"image":         {},
		"layer":         {"plan", "image"},
		"dockerfile":    {"plan"},
		"fingerprint":   {"plan", "image", "dockerfile"},
		"report":        {},
		"progress":      {"report"},
		"hoststate":     {},
		"privateengine": {},
		"buildspec":     {"plan"},
		"cachemount":    {},
		"relay":         {},
		"selfimage":     {},
		"advice":        {"plan", "progress"},
		"httptransport": {},
		"registry":      {"plan", "httptransport", "progress"},
		"baseimage":     {"plan", "httptransport", "hoststate"},
		"aws":           {"plan", "httptransport", "registry"},
		"localregistry": {},
		"dockerconfig":  {"plan"},
		"dockerpush":    {"relay", "selfimage", "plan", "image", "layer", "fingerprint", "hoststate", "progress", "report"},
		"ociexport":     {"plan", "image", "layer", "fingerprint", "hoststate"},
		"endpoint":      {"plan", "dockerconfig"},
		"builder": {"endpoint", "plan", "image", "layer", "dockerfile", "fingerprint", "hoststate", "dockerpush", "ociexport",
			"privateengine", "cachemount", "selfimage", "progress", "report"},
		"imagedef": {},
		"part":     {"plan", "image"},
		"artifact": {"part"},
		"pipeline": {"plan", "image", "registry", "baseimage", "aws", "builder", "dockerfile", "fingerprint", "imagedef",
			"progress", "report", "artifact", "hoststate", "cachemount"},
		"fleet": {"plan", "image", "endpoint", "builder", "dockerfile", "cachemount", "pipeline", "progress"},
		"credentials": {"plan", "aws", "registry", "baseimage", "hoststate", "pipeline", "progress", "report",
			"dockerconfig"},
		"iampolicy": {"plan", "registry", "dockerfile"},
		"diagnose": {"plan", "aws", "registry", "baseimage", "httptransport", "endpoint", "dockerpush", "builder",
			"dockerfile", "layer", "iampolicy", "pipeline", "artifact", "privateengine"},
		"doctor": {"plan", "progress", "dockerfile", "aws", "registry", "builder", "credentials", "pipeline",
			"diagnose"},
		"awstest":    {"localregistry", "registry"},
		"enginetest": {},
	}
	everybody := []string{"fault", "redact", "format", "atomicfile"} // may import these
	theirs := map[string][]string{
		"github.com/aws/":                         {"aws"},
		"github.com/moby/buildkit/":               {"endpoint", "builder", "dockerfile", "enginetest"},
		"github.com/moby/moby/":                   {"endpoint", "builder", "dockerpush"},
		"github.com/google/go-containerregistry/": {"registry", "baseimage", "localregistry", "awstest", "enginetest"},
		"github.com/docker/docker":                nil,
		"github.com/docker/buildx":                nil,
		"github.com/docker/cli":                   {"endpoint"}, // one small package, which BuildKit's own helpers use
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
			if other, ok := strings.CutPrefix(imp, module+"internal/"); ok && !slices.Contains(allowed, other) &&
				!slices.Contains(everybody, other) {
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

// TestDependencies holds the table of docs/architecture.md to the modules that go.mod requires.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "\n## Dependencies\n")
	if !ok {
		t.Fatal("docs/architecture.md has no section Dependencies")
	}
	const sdk = "github.com/aws/aws-sdk-go-v2"
	var listed []string
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) < 3 {
			continue
		}
		for i, name := range strings.Split(cells[1], "`") {
			switch {
			case i%2 == 0:
			case !strings.Contains(name, "."): // within the SDK
				listed = append(listed, sdk+"/"+name)
			default:
				listed = append(listed, name)
			}
		}
	}
	required := strings.Fields(string(out))
	slices.Sort(listed)
	slices.Sort(required)
	if diff := cmp.Diff(required, listed); diff != "" {
		t.Errorf("go.mod (-) and docs/architecture.md (+):\n%s", diff)
	}
}
