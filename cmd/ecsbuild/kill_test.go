package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// TestKilled stops runs at random moments, half of them between two requests to the registry,
// with signals that can be caught and with SIGKILL. Whatever the moment, there is never a
// definitions file that names what is not there; a signal that is caught leaves nothing at all;
// and the next run succeeds, and clears what SIGKILL has left.
func TestKilled(t *testing.T) {
	kinds, count := soakKinds(t, "codebuild"), 4
	if os.Getenv("ECSBUILD_SOAK") != "" {
		count = 100
	}
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			newKilling(t, kind).killAll(count)
		})
	}
}

// killing is the runs of one engine.
type killing struct {
	*world
	random *rand.Rand
	names  []string // of the images, containers and repositories
	files  []string // that are there before a run
}

func newKilling(t *testing.T, kind string) *killing {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := &killing{world: newWorld(t, kind), random: rand.New(rand.NewPCG(seed, 0)),
		names: []string{"app", "web", "worker"}}
	if err := (&stage{rig: k.rig}).hubImage("library/base:1", 0); err != nil {
		t.Fatal(err)
	}
	k.busybox()
	text := "tag: v1\nimages:\n"
	for _, n := range k.names {
		k.rig.AddRepository(awstest.Account, n, false)
		k.write(n+".Dockerfile", "FROM base:1\nCOPY "+n+" busybox /\n"+
			"RUN --mount=type=cache,target=/m [\"/busybox\", \"sh\", \"-c\", \"/busybox date >/m/"+n+"; /busybox sleep 0.1\"]\n")
		text += fmt.Sprintf("  - {container: %s, repository: %[1]s, dockerfile: %[1]s.Dockerfile, cache_mounts: true", n)
		if kind != "debian" && kind != "codebuild" && kind != "classic" {
			text += ", cache: local"
		}
		text += "}\n"
	}
	k.write("ecsbuild.yml", text)
	return k
}

// change gives each image a new layer.
func (k *killing) change() {
	for _, n := range k.names {
		data := make([]byte, 300_000)
		for i := range data {
			data[i] = byte(k.random.Uint32())
		}
		k.write(n, string(data))
	}
}

func (k *killing) killAll(count int) {
	k.change()
	whole := k.run(nil, "run", "--progress", "plain") // the first one fills caches
	k.change()
	if whole.code == 0 {
		k.rig.Forget()
		whole = k.run(nil, "run", "--progress", "plain")
	}
	if whole.code != 0 {
		k.Fatalf("undisturbed: exit code %d: %s", whole.code, whole.stderr)
	}
	requests := len(k.rig.Requests())
	if err := os.Remove(filepath.Join(k.dir, "src", "imagedefinitions.json")); err != nil {
		k.Fatal(err)
	}
	k.files = k.world.files("src")

	endings := map[string]int{}
	for range count {
		k.change()
		before := k.tags()
		k.rig.Forget()
		signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL}[k.random.IntN(3)]
		moment := time.Duration(k.random.Int64N(int64(whole.took)))
		after := 0 // requests
		if k.random.IntN(2) == 0 {
			after, moment = 1+k.random.IntN(requests), 10*whole.took
		}
		r := k.run(func(p *os.Process) {
			for began := time.Now(); time.Since(began) < moment && (after == 0 || len(k.rig.Requests()) < after) &&
				p.Signal(syscall.Signal(0)) == nil; {
				time.Sleep(time.Millisecond)
			}
			_ = p.Signal(signal)
		}, "run", "--progress", "plain")
		story := fmt.Sprintf("%v after %v or %d requests: exit code %d", signal, moment, after, r.code)
		k.judge(story, signal, r, before)
		endings[fmt.Sprintf("%v %d", signal, r.code)]++

		if r = k.run(nil, "run", "--progress", "plain"); r.code != 0 {
			k.Fatalf("%s; and the next run: exit code %d: %s", story, r.code, r.stderr)
		}
		k.succeeded(story + "; and after the next run")
		for range 5 { // while another test's run listened where the killed one did, its names were not removed
			if len(k.pushNames()) > 0 {
				k.run(nil, "run", "--progress", "plain")
			}
		}
		if err := os.Remove(filepath.Join(k.dir, "src", "imagedefinitions.json")); err != nil {
			k.Fatal(err)
		}
		k.nothingLeft(story + "; and after the next run")
		if k.Failed() {
			break
		}
	}
	var lines []string
	for _, e := range slices.Sorted(maps.Keys(endings)) {
		lines = append(lines, fmt.Sprintf("%s: %d", e, endings[e]))
	}
	k.Logf("%d runs killed, of %.1f s each\n%s", count, whole.took.Seconds(), strings.Join(lines, "\n"))
}

// tags are what the tag of each image points at.
func (k *killing) tags() map[string]digest.Digest {
	tags := map[string]digest.Digest{}
	for _, n := range k.names {
		tags[n] = k.rig.Tags(awstest.Account, n)["v1"]
	}
	return tags
}

// judge looks at what a run has left that was to be stopped.
func (k *killing) judge(story string, signal syscall.Signal, r ending, before map[string]digest.Digest) {
	k.Helper()
	switch {
	case r.code == 0:
		k.succeeded(story)
	case k.definitions() != nil: // written, and stopped while it wrote caches or by SIGKILL at its end
		k.succeeded(story)
	}
	want := map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGKILL: -1}[signal]
	if r.code != 0 && r.code != want {
		// The Go runtime and the kernel end a process that has not asked for the signal yet.
		if r.code != -1 || r.stderr != "" {
			k.Errorf("%s, not %d: %s", story, want, r.stderr)
		}
	}
	if signal == syscall.SIGKILL {
		return
	}
	moved := !cmp.Equal(before, k.tags())
	if said := strings.Contains(r.stderr, "no tag has moved"); r.code == want && r.stderr != "" && said == moved {
		k.Errorf("%s: tags moved: %v, and it says: %s", story, moved, r.stderr)
	}
	_ = os.Remove(filepath.Join(k.dir, "src", "imagedefinitions.json"))
	k.nothingLeft(story)
}

// succeeded is that every image is there under its tag, as its newest source has it.
func (k *killing) succeeded(story string) {
	k.Helper()
	definitions := k.definitions()
	if len(definitions) != len(k.names) {
		k.Errorf("%s: the definitions are %v", story, definitions)
	}
	for _, n := range k.names {
		if !strings.HasSuffix(definitions[n], "/"+n+":v1") {
			k.Errorf("%s: the definitions are %v", story, definitions)
		}
		if missing := k.missing(n, "v1"); missing != "" {
			k.Errorf("%s: the registry lacks %s", story, missing)
		}
	}
}

// nothingLeft is that there is no file, process, container or name that was not there before.
func (k *killing) nothingLeft(story string) {
	k.Helper()
	if diff := cmp.Diff(k.files, k.world.files("src")); diff != "" {
		k.Errorf("%s, files were left among the sources (+):\n%s", story, diff)
	}
	if left := k.world.files("tmp"); len(left) > 0 {
		k.Errorf("%s, temporary files were left: %v", story, left)
	}
	if left := k.pushNames(); len(left) > 0 {
		k.Errorf("%s, names were left in the engine: %v", story, left)
	}
	if k.kind != "buildkitd" {
		if left := k.docker("ps", "-aq"); left[0] != "" {
			k.Errorf("%s, containers were left: %v", story, left)
		}
	}
	if left := k.processes(k.folder + "/data/ecsbuild/"); len(left) > 0 {
		k.Errorf("%s, processes were left: %v", story, left)
	}
}

// pushNames are the names in the engine that are of a run.
func (k *killing) pushNames() (found []string) {
	k.Helper()
	if k.kind == "buildkitd" {
		return nil
	}
	for _, name := range k.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}") {
		if strings.Contains(name, "127.0.0.1") || strings.Contains(name, "ecsbuild") {
			found = append(found, name)
		}
	}
	return found
}
