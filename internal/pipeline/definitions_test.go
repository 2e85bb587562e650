package pipeline

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// TestDefinitionsTooLarge: it shows before anything is built.
func TestDefinitionsTooLarge(t *testing.T) {
	f := newFixture(t, "app")
	name := strings.Repeat("c", 250)
	for i := range 700 {
		c := fmt.Sprint(name, i)
		f.plan.Images[0].Containers = append(f.plan.Images[0].Containers, c)
		f.plan.Definitions[0].Entries = append(f.plan.Definitions[0].Entries, plan.Entry{Container: c, Image: "app"})
	}
	var e *fault.Error
	if _, err := f.run(t, Options{}); !errors.As(err, &e) || !strings.Contains(e.What, "too large") ||
		len(f.engine.built) != 0 {
		t.Errorf("%v", err)
	}
}

// TestDefinitionsCannotBeWritten: the images are in the registry, and the result says so.
func TestDefinitionsCannotBeWritten(t *testing.T) {
	f := newFixture(t, "app")
	f.plan.Definitions[0].File = filepath.Join(f.plan.Directory, "Dockerfile")
	r, err := f.run(t, Options{})
	var e *artifact.Error
	if !errors.As(err, &e) || !e.Late || r == nil || len(r.Images) != 1 {
		t.Errorf("%v, %v", r, err)
	}
}
