package hoststate

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzState: a file that somebody else has written is read, or nothing is known.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"bases":{"a":{"used":"2026-01-01T00:00:00Z","value":[1]}},"x":null}`))
	f.Add([]byte(`null`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, FileName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := Open(dir)
		var value []int
		s.Get("bases", "a", &value)
		s.Put("bases", "b", 1)
		s.Put("x", "b", 1)
		s.Save()
	})
}
