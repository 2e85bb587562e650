package artifact

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

const definitions = `[{"name":"app","imageUri":"r:1"}]`

func TestWriteAndRemove(t *testing.T) {
	dir := t.TempDir()
	f := File{Path: filepath.Join(dir, "out", "imagedefinitions.json"), Kind: Definitions}
	for _, text := range []string{definitions, `{"ImageURI":"r@sha256:1"}`} {
		if err := errors.Join(f.Try(), f.Write([]byte(text))); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(f.Path); string(got) != text {
			t.Errorf("%s", got)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(f.Path)); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
	for range 2 {
		if err := f.Remove(false); err != nil {
			t.Error(err)
		}
	}
	if (File{Path: dir, Kind: Definitions}).Remove(true) == nil {
		t.Error("a folder was removed")
	}
	if (File{Path: "/dev/stdout", Kind: Exports}).Check(true) == nil {
		t.Error("/dev/stdout is taken for a file")
	}
}

func TestCheck(t *testing.T) {
	report := `{"version": 1, "generator": "ecsbuild"}`
	page := "<!doctype html>\n<html><head>\n<meta name=\"generator\" content=\"ecsbuild\">\n"
	exports := "export ECSBUILD_IMAGE_URI_APP='r:1'\nexport ECSBUILD_IMAGE_DIGEST_APP='sha256:1'\n"
	for _, test := range []struct {
		kind Kind
		text string
		ours bool
	}{
		{Definitions, definitions, true},
		{Definitions, `{"ImageURI":"r@sha256:1"}`, true},
		{Definitions, "[]", false},
		{Definitions, `[{"name":"app","imageUri":"r:1","port":80}]`, false},
		{Definitions, `[{"name":"app"}]`, false},
		{Definitions, definitions + definitions, false},
		{Definitions, "{}", false},
		{Definitions, "null", false},
		{Definitions, "", false},
		{Definitions, report, false},
		{Exports, exports, true},
		{Exports, exports + "export PATH='x'\n", false},
		{Exports, "", false},
		{Exports, "#!/bin/sh\n", false},
		{Report, report, true},
		{Report, page, true},
		{Report, `{"version": 1}`, false},
		{Report, "<!doctype html>\n<title>ecsbuild</title>", false},
		{Report, "", false},
	} {
		f := File{Path: filepath.Join(t.TempDir(), "f"), Kind: test.kind}
		if err := os.WriteFile(f.Path, []byte(test.text), 0o644); err != nil {
			t.Fatal(err)
		}
		var foreign *ForeignError
		if err := f.Check(false); (err == nil) != test.ours || err != nil && !errors.As(err, &foreign) {
			t.Errorf("%s %q: %v", test.kind, test.text, err)
		}
		if err := f.Remove(false); (err == nil) != test.ours {
			t.Errorf("%s %q: removed: %v", test.kind, test.text, err)
		}
		if _, err := os.Stat(f.Path); (err != nil) != test.ours {
			t.Errorf("%s %q: %v", test.kind, test.text, err)
		}
	}
}

// TestLinks writes through links, as > does, and leaves them.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "artifacts", "real.json"), filepath.Join(dir, "link")
	if err := os.Symlink("artifacts/real.json", link); err != nil {
		t.Fatal(err)
	}
	f := File{Path: link, Kind: Definitions}
	for range 2 {
		if err := errors.Join(f.Check(false), f.Try(), f.Write([]byte(definitions))); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(target); string(got) != definitions {
			t.Errorf("%q", got)
		}
	}
	if err := f.Remove(false); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Error("the link is gone")
	}
	if err := os.WriteFile(target, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if f.Write([]byte(definitions)) == nil {
		t.Error("a file that is not ours was written over")
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if (File{Path: loop, Kind: Definitions}).Try() == nil {
		t.Error("a loop of links was written to")
	}
}
