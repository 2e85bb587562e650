package hoststate

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	s := Open(dir)
	s.Put("layers", "k", map[string]int{"size": 5})
	s.Put("layers", "never", func() {})
	s.Save()
	s = Open(dir)
	var v map[string]int
	if !s.Get("layers", "k", &v) || v["size"] != 5 || s.Get("layers", "other", &v) || s.Get("other", "k", &v) ||
		s.Get("layers", "never", &v) {
		t.Errorf("%v", v)
	}
	var wrong []string
	if s.Get("layers", "k", &wrong) {
		t.Error("a value of another shape is taken")
	}
	before, err := os.Stat(s.file)
	if err != nil || before.Mode().Perm() != 0o600 {
		t.Fatal(before, err)
	}
	s.Save() // nothing was learned
	if after, err := os.Stat(s.file); err != nil || !os.SameFile(before, after) {
		t.Errorf("it is written without need: %v", err)
	}
}

// TestForgets what was not used for longest.
func TestForgets(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir)
	for i := range maxEntries + 10 {
		s.Put("k", fmt.Sprint(i), i)
		e := s.kinds["k"][fmt.Sprint(i)]
		e.Used = time.Unix(int64(i), 0)
		s.kinds["k"][fmt.Sprint(i)] = e
	}
	s.Save()
	s = Open(dir)
	var v int
	if len(s.kinds["k"]) != maxEntries || s.Get("k", "9", &v) || !s.Get("k", "10", &v) || !s.dirty {
		t.Errorf("%d entries", len(s.kinds["k"]))
	}
}

// TestBroken: what cannot be read or written costs time and nothing else.
func TestBroken(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "null", "[]", "{"} {
		if err := os.WriteFile(filepath.Join(dir, "record.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := Open(dir)
		s.Put("k", "a", 1)
		s.Save()
		var v int
		if !Open(dir).Get("k", "a", &v) {
			t.Errorf("%q: it is not written anew", text)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*State{nil, Open(""), Open(file)} {
		s.Put("k", "a", 1)
		s.Save()
		if s == nil && s.Get("k", "a", new(int)) {
			t.Error("nil knows something")
		}
	}
}
