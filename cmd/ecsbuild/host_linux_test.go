package main

import (
	"crypto/rand"
	random "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// TestHostFailures: disks that are full, folders that cannot be written to, and engines that end.
func TestHostFailures(t *testing.T) {
	kinds := testEngines(t)
	if os.Getenv("ECSBUILD_SOAK") == "" { // one of each way out of an engine
		kinds = slices.DeleteFunc(kinds, func(k string) bool { return k != "codebuild" && k != "buildkitd" })
	}
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, kind)
			w.busybox()
			h := &hostFailures{w}
			h.fullFolders()
			h.fullEngine()
			h.endedEngine()
		})
	}
}

type hostFailures struct{ *world }

// configure has one image with a layer of some bytes that cannot be compressed.
func (h *hostFailures) configure(size int, more string) {
	h.Helper()
	h.rig.Empty(awstest.Account)
	h.rig.AddRepository(awstest.Account, "shop", false)
	h.write("ecsbuild.yml", "tag: v1\nimages:\n  - {container: web, repository: shop"+more+"}\n")
	h.write("Dockerfile", "FROM scratch\nCOPY busybox data /\n")
	var seed [32]byte
	copy(seed[:], rand.Text())
	data := make([]byte, size)
	_, _ = random.NewChaCha8(seed).Read(data)
	h.write("data", string(data))
}

// overmount puts an empty file system of some kilobytes over a folder, until the test ends or
// its result is called.
func (h *hostFailures) overmount(dir string, kB int, options string) (undo func()) {
	h.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(kB)+"k"+options); err != nil {
		h.Fatal(err)
	}
	undo = sync.OnceFunc(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			h.Error(err)
		}
	})
	h.Cleanup(undo)
	return undo
}

// succeeds is that a run pushes its image all the same, and says something.
func (h *hostFailures) succeeds(story, says string) {
	h.Helper()
	r := h.run(nil, "run", "--progress", "plain")
	if missing := h.missing("shop", "v1"); r.code != 0 || !strings.Contains(r.stderr, says) || missing != "" {
		h.Errorf("%s: exit code %d, the registry lacks %q, it does not say %q:\n%s", story, r.code, missing, says, r.stderr)
	}
}

// fails is that a run ends with a code and a message, and has left no file and no tag.
func (h *hostFailures) fails(story string, meanwhile func(*os.Process), code int, says ...string) {
	h.Helper()
	r := h.run(meanwhile, "run", "--progress", "plain")
	if r.code != code {
		h.Errorf("%s: exit code %d, not %d", story, r.code, code)
	}
	_, said, _ := strings.Cut("\n"+r.stderr, "\necsbuild: ")
	for _, s := range says {
		if !strings.Contains(said, s) {
			h.Errorf("%s: it does not say %q", story, s)
		}
	}
	if h.definitions() != nil {
		h.Errorf("%s: there are definitions", story)
	}
	if tags := h.rig.Tags(awstest.Account, "shop"); len(tags) > 0 {
		h.Errorf("%s: there are tags: %v", story, tags)
	}
	if h.Failed() {
		h.Log(r.stderr)
	}
}

func (h *hostFailures) fullFolders() {
	h.Helper()
	tmp, home := filepath.Join(h.dir, "tmp"), filepath.Join(h.dir, "home")

	undo := h.overmount(tmp, 8, "")
	h.configure(8<<20, ", compression: zstd")
	if slices.Contains(classicKinds, h.kind) { // the others hand over what is compressed already
		h.fails("no room for a layer", nil, 5, "cannot keep a layer in "+tmp, "no space left on device", "export TMPDIR=")
	} else {
		h.succeeds("no room for a layer", "")
	}
	undo()

	undo = h.overmount(home, 8, "")
	if slices.Contains(classicKinds, h.kind) {
		h.configure(8<<20, "")
		h.succeeds("no room in HOME", "")
	} else {
		h.configure(8<<20, ", cache: local")
		h.succeeds("no room for a cache", "no space left on device")
	}
	undo()

	undo = h.overmount(home, 8, ",ro")
	h.configure(8<<20, "")
	h.succeeds("a HOME that cannot be written to", "")
	undo()
}

// fullEngine is an engine whose disk is smaller than the image.
func (h *hostFailures) fullEngine() {
	h.Helper()
	dir, err := os.MkdirTemp("", "ecsbuild-engine-")
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = os.RemoveAll(dir) })
	h.overmount(dir, 50<<10, "")
	usual := h.environ
	h.environ = append(slices.Clone(usual), startEngineIn(h.T, dir, h.kind, h.rig.Environ()))
	h.configure(80<<20, "")
	h.fails("the engine's disk is full", nil, 1, "no space left on device", "make room on the engine's disk")
	h.environ = usual
}

// endedEngine kills the engine while it builds.
func (h *hostFailures) endedEngine() {
	h.Helper()
	h.configure(1000, "")
	h.write("Dockerfile", "FROM scratch\nCOPY busybox data /\nRUN [\"/busybox\", \"sleep\", \"30\"]\n")
	h.fails("the engine is killed", func(*os.Process) {
		time.Sleep(2 * time.Second)
		text, err := os.ReadFile(filepath.Join(h.folder, "pid"))
		if err != nil {
			h.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			h.Error(err)
		}
	}, 4, "went away during the build")
}
