package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckCacheFolder: another user's folder is refused where everybody can make one.
func TestCheckCacheFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("gives a folder to another user, which needs root")
	}
	for name, tt := range map[string]struct {
		parent  os.FileMode
		owner   int
		sudo    string
		refused bool
	}{
		"another user's in /tmp":   {0o777 | os.ModeSticky, 1234, "", true},
		"root's in /tmp":           {0o777 | os.ModeSticky, 0, "", false},
		"that of who called sudo":  {0o777 | os.ModeSticky, 1234, "1234", false},
		"another user's elsewhere": {0o755, 1234, "", false},
	} {
		parent := t.TempDir()
		folder := filepath.Join(parent, "cache")
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(folder, tt.owner, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(parent, tt.parent); err != nil {
			t.Fatal(err)
		}
		err := checkCacheFolder(folder, func(string) string { return tt.sudo })
		if (err != nil) != tt.refused || err != nil && !strings.Contains(err.Error(), "belongs to another user (1234)") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := checkCacheFolder(filepath.Join(t.TempDir(), "none"), os.Getenv); err != nil {
		t.Error(err)
	}
}
