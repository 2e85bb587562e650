package pipeline

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDockerfileIsReadOnce counts how often a run opens a Dockerfile: once, and, where it
// decides whether an image is built, again after the contexts were read and when the build
// is over, to see that it is still the same.
func TestDockerfileIsReadOnce(t *testing.T) {
	for reuse, want := range map[bool]int{false: 1, true: 3} {
		f := newFixture(t, "app")
		file := filepath.Join(t.TempDir(), "Dockerfile") // not in the context, whose files are hashed as well
		if err := os.WriteFile(file, []byte("FROM scratch\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		f.plan.Images[0].Reuse, f.plan.Images[0].Build.Dockerfile = reuse, file
		watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
		if err != nil {
			t.Skip("no inotify:", err)
		}
		defer unix.Close(watch)
		if _, err := unix.InotifyAddWatch(watch, file, unix.IN_OPEN|unix.IN_CLOSE_NOWRITE); err != nil {
			t.Fatal(err)
		}
		if _, err := f.run(t, Options{}); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		n, err := unix.Read(watch, buf)
		if err != nil {
			t.Fatal(err)
		}
		// Events that follow each other and are the same are one: a close lies between two.
		opens := 0
		for at := 0; at < n; at += unix.SizeofInotifyEvent {
			if binary.NativeEndian.Uint32(buf[at+4:])&unix.IN_OPEN != 0 {
				opens++
			}
		}
		if opens != want {
			t.Errorf("reuse %v: opened %d times, want %d", reuse, opens, want)
		}
	}
}
