package fingerprint

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOutputs: neither a file of the run nor a folder of it is part of a context.
func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "out.json", "cache/buildcache/x", "cached"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	context, err := ContextFS(dir, []string{filepath.Join(dir, "out.json"), filepath.Join(dir, "cache")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = context.Walk(t.Context(), "", func(path string, _ fs.DirEntry, err error) error {
		got = append(got, path)
		return err
	})
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a", "cached"}, got); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
}
