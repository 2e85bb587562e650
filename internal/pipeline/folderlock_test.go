package pipeline

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFolderLocks: two runs may read a folder, and one alone may delete from it.
func TestFolderLocks(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "buildcache", "web")
	var one, two folderLocks
	if err := one.share(folder); err != nil || !one.own(folder) {
		t.Fatalf("%v", err)
	}
	if err := two.share(folder); err == nil {
		t.Error("a folder is shared that another run deletes from")
	}
	one.release()
	for _, l := range []*folderLocks{&one, &two, &one} {
		if err := l.share(folder); err != nil {
			t.Fatal(err)
		}
	}
	if one.own(folder) || two.own(folder) {
		t.Error("a folder is one run's that two use")
	}
	one.release()
	if !two.own(folder) {
		t.Error("nobody else uses it")
	}
	two.release()
	if err := os.Symlink("/etc/passwd", folder+"2.lock"); err != nil {
		t.Fatal(err)
	}
	if err := one.share(folder + "2"); err == nil {
		t.Error("a link was opened")
	}
}
