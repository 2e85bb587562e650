package pipeline

import (
	"errors"
	"strings"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

func pushedImage(repository string, tags ...string) Pushed {
	return Pushed{Image: plan.Image{Containers: []string{repository}, Repository: repository, Tags: tags},
		Artifact: &image.Artifact{Manifests: []image.Manifest{{Digest: "sha256:new"}}}}
}

func TestPhases(t *testing.T) {
	pushed := []Pushed{pushedImage("a", "v1", "latest"), pushedImage("b", "v1"), pushedImage("c", "v1"),
		pushedImage("d", "v1"), pushedImage("e", "v1")}
	pushed[3].Image.Create = &plan.Creation{Immutable: true}
	states := map[string]registry.TagState{
		"a:v1":     {Digest: "sha256:new"}, // the same already
		"a:latest": {Digest: "sha256:old"},
		"c:v1":     {Digest: "sha256:old"}, // may be refused
		"e:v1":     {Immutable: true},
	}
	var got []string
	for _, phase := range phases(pushed, states, func(repository string) bool { return repository == "b" }) {
		var names []string
		for _, m := range phase {
			names = append(names, m.name())
		}
		got = append(got, strings.Join(names, " "))
	}
	if text := strings.Join(got, " | "); text != "b:v1 d:v1 e:v1 | c:v1 | a:v1 | a:latest" {
		t.Error(text)
	}
}

func TestTaken(t *testing.T) {
	pushed := []Pushed{pushedImage("a", "v1", "latest"), pushedImage("b", "v1")}
	states := map[string]registry.TagState{"a:v1": {Digest: "sha256:new", Immutable: true},
		"a:latest": {Digest: "sha256:old"}, "b:v1": {Immutable: true}}
	if err := refusedTags(pushed, states); err != nil {
		t.Error(err)
	}
	states["b:v1"] = registry.TagState{Digest: "sha256:old", Immutable: true}
	var e *registry.TagTakenError
	if err := refusedTags(pushed, states); !errors.As(err, &e) || e.Repository != "b" || e.Tag != "v1" {
		t.Error(err)
	}
}
