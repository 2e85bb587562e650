package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// loadKinds are the engines of a load test: CodeBuild's, and with make soak a private one and
// those of the other stores.
func loadKinds(t *testing.T) []string {
	kinds := testEngines(t)
	if !slices.Contains(kinds, "codebuild") {
		t.Skip("its engine is not among ECSBUILD_TEST_ENGINES")
	}
	if os.Getenv("ECSBUILD_SOAK") == "" {
		return []string{"codebuild"}
	}
	return append(slices.DeleteFunc(kinds, func(k string) bool { return k == "classic" || k == "debian" }), "private")
}

// TestLoad: what a run costs an image is the same with few images and with many, and memory,
// file descriptors and goroutines stay within bounds. Most of it takes minutes: make soak.
func TestLoad(t *testing.T) {
	t.Parallel()
	for _, kind := range loadKinds(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := &load{newWorld(t, kind)}
			if os.Getenv("ECSBUILD_SOAK") == "" {
				l.compareCounts(5, 20)
				return
			}
			l.compareCounts(10, 200)
			l.manyRuns(20)
			l.manyLayers(127)
			l.manyFiles(200_000)
			l.largeLayer(5 << 30)
		})
	}
}

type load struct{ *world }

// Bounds of any run. Images are built by jobs, of which there are 32, whatever their number.
const (
	maxMemory      = 150 << 20
	maxDescriptors = 300
	maxGoroutines  = 3000
)

// peaks are the most of each that a process has had.
type peaks struct{ memory, descriptors, goroutines int }

var (
	peakMemory   = regexp.MustCompile(`VmHWM:\s+([0-9]+) kB`)
	schedTrace   = regexp.MustCompile(`(?m)^SCHED |^ +[GMP][0-9]+:.*\n`)
	traceOfAll   = regexp.MustCompile(`(?m)^SCHED [0-9]+ms:`)
	liveRoutines = regexp.MustCompile(`(?m)^ +G[0-9]+: status=[0-57-9]`) // 6 is one that has ended
)

// measured runs ecsbuild, and says what it has taken. The runtime itself tells of goroutines.
func (l *load) measured(args ...string) (ending, peaks) {
	l.Helper()
	var p peaks
	var sampling sync.WaitGroup
	environ := l.environ
	l.environ = append(slices.Clone(environ), "GODEBUG=schedtrace=250,scheddetail=1")
	defer func() { l.environ = environ }()
	r := l.run(func(process *os.Process) {
		dir := "/proc/" + strconv.Itoa(process.Pid)
		sampling.Go(func() { // until it has ended
			for {
				status, err := os.ReadFile(dir + "/status")
				m := peakMemory.FindSubmatch(status)
				if err != nil || m == nil {
					return
				}
				kB, _ := strconv.Atoi(string(m[1]))
				files, _ := os.ReadDir(dir + "/fd")
				p.memory, p.descriptors = kB<<10, max(p.descriptors, len(files))
				time.Sleep(20 * time.Millisecond)
			}
		})
	}, args...)
	sampling.Wait()
	for _, trace := range traceOfAll.Split(r.stderr, -1) {
		p.goroutines = max(p.goroutines, len(liveRoutines.FindAllString(trace, -1)))
	}
	if r.code != 0 {
		l.Fatalf("exit code %d: %s", r.code, schedTrace.ReplaceAllString(r.stderr, ""))
	}
	if p.memory > maxMemory || p.descriptors > maxDescriptors || p.goroutines > maxGoroutines {
		l.Errorf("%s: over the bounds", p)
	}
	return r, p
}

func (p peaks) String() string {
	return fmt.Sprintf("%d MB, %d descriptors, %d goroutines", p.memory>>20, p.descriptors, p.goroutines)
}

// images configures a number of images, each of a layer and a repository of its own.
func (l *load) images(n int) {
	l.Helper()
	text := "tag: v1\nimages:\n"
	for i := range n {
		name := fmt.Sprintf("image-%d-of-%d", i, n)
		l.rig.AddRepository(awstest.Account, name, false)
		l.write(name, strings.Repeat(name, 1000))
		l.write(name+".Dockerfile", "FROM scratch\nCOPY "+name+" /\n")
		text += fmt.Sprintf("  - {container: %s, repository: %[1]s, dockerfile: %[1]s.Dockerfile}\n", name)
	}
	l.write("ecsbuild.yml", text)
}

// compareCounts: requests of an image are the same for many images as for few.
func (l *load) compareCounts(few, many int) {
	l.Helper()
	each := map[int]map[string]float64{}
	for _, n := range []int{few, many} {
		l.images(n)
		l.rig.Forget()
		r, p := l.measured("run", "--progress", "quiet")
		each[n] = map[string]float64{}
		total := 0
		for _, q := range l.rig.Requests() {
			if q.Repository != "" {
				each[n][q.Action] += 1 / float64(n)
				total++
			}
		}
		l.Logf("%d images: %.1f s, %.0f ms and %.1f requests each; %s", n, r.took.Seconds(),
			r.took.Seconds()*1000/float64(n), float64(total)/float64(n), p)
		if got := len(l.definitions()); got != n {
			l.Errorf("%d definitions of %d images", got, n)
		}
		if l.rig.MaxPutsPerSecond() > 10 {
			l.Errorf("%d images: %d PutImage in a second", n, l.rig.MaxPutsPerSecond())
		}
	}
	for _, action := range slices.Sorted(maps.Keys(each[many])) {
		if each[many][action] > each[few][action]*1.01 {
			l.Errorf("%s: %.2f an image of %d, %.2f of %d", action, each[many][action], many, each[few][action], few)
		}
	}
}

// manyRuns: runs at the same time, into one repository, and two of them with one tag.
func (l *load) manyRuns(n int) {
	l.Helper()
	l.rig.AddRepository(awstest.Account, "shop", false)
	l.write("ecsbuild.yml", "images:\n  - {container: web, repository: shop, args: {N: \"${N}\"}}\n")
	l.busybox()
	l.write("Dockerfile", "FROM scratch\nARG N\nCOPY busybox /\nRUN [\"/busybox\", \"sh\", \"-c\", \"echo $N >/n\"]\n")
	began := time.Now()
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			tag := fmt.Sprintf("v%d", i/2*2) // two have the same
			w := *l.world
			w.environ = append(slices.Clone(l.environ), "N="+strconv.Itoa(i), "IMAGE_TAG="+tag)
			file := fmt.Sprintf("definitions-%d.json", i)
			if r := w.run(nil, "run", "--progress", "plain", "--output", file); r.code != 0 {
				l.Errorf("run %d: exit code %d: %s", i, r.code, r.stderr)
				return
			}
			text, err := os.ReadFile(filepath.Join(l.dir, "src", file))
			if err != nil || !strings.Contains(string(text), "/shop:"+tag+`"`) {
				l.Errorf("run %d: %s, %v", i, text, err)
			}
			if missing := l.missing("shop", tag); missing != "" {
				l.Errorf("run %d: the registry lacks %s", i, missing)
			}
		})
	}
	wait.Wait()
	l.Logf("%d runs at once: %.1f s", n, time.Since(began).Seconds())
}

// oneImage runs a Dockerfile, and logs what that has taken.
func (l *load) oneImage(name, dockerfile string) {
	l.Helper()
	l.rig.AddRepository(awstest.Account, name, false)
	l.write("Dockerfile", dockerfile)
	l.write("ecsbuild.yml", "tag: v1\nimages:\n  - {container: web, repository: "+name+"}\n")
	r, p := l.measured("run", "--progress", "quiet")
	if missing := l.missing(name, "v1"); missing != "" {
		l.Errorf("%s: the registry lacks %s", name, missing)
	}
	l.Logf("%s: %.1f s; %s", name, r.took.Seconds(), p)
}

// manyLayers: 127 is what an engine takes.
func (l *load) manyLayers(n int) {
	l.Helper()
	text := "FROM scratch\n"
	for i := range n {
		l.write(fmt.Sprintf("layer-%d", i), strconv.Itoa(i))
		text += fmt.Sprintf("COPY layer-%d /\n", i)
	}
	l.oneImage("layers", text)
}

func (l *load) manyFiles(n int) {
	l.Helper()
	for i := range n {
		l.write(fmt.Sprintf("files/%d/%d", i/1000, i), strconv.Itoa(i))
	}
	l.oneImage("files", "FROM scratch\nCOPY files /files\n")
	if err := os.RemoveAll(filepath.Join(l.dir, "src", "files")); err != nil {
		l.Fatal(err)
	}
}

// largeLayer is of bytes that cannot be compressed.
func (l *load) largeLayer(size int64) {
	l.Helper()
	f, err := os.Create(filepath.Join(l.dir, "src", "large"))
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{})
	for piece := make([]byte, 1<<20); size > 0 && err == nil; size -= int64(len(piece)) {
		_, _ = random.Read(piece)
		_, err = f.Write(piece)
	}
	if err != nil {
		l.Fatal(err)
	}
	l.oneImage("large", "FROM scratch\nCOPY large /\n")
}
