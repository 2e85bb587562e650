// Bench compares ecsbuild with the shell lines of a buildspec and with docker
// buildx bake --push, on real engines and against the rig that the tests use:
// an ECR and a Docker Hub on loopback. README.md has the method.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// bench is one run of the program.
type bench struct {
	tools     tools
	hub       hubImages
	workloads map[string]*workload
	dir       string // temporary
	out       string
	results   results
	cases     []string
	hosts     int
	jobs      int // of each of several builders
}

func main() {
	log.SetFlags(log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		log.Print("bench: ", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	engines := flag.String("engines", "codebuild containerd debian", "kinds of script/engine")
	cases := flag.String("cases", strings.Join(allCases, " "), "what to measure")
	runs := flag.Int("runs", 3, "measurements of each; the median counts")
	out := flag.String("out", "bench/out", "folder of the results")
	from := flag.String("from", "", "results.json of earlier runs, to be told together; measures nothing")
	rev := flag.String("rev", "", "commit to build ecsbuild from (default: the working tree)")
	jobs := flag.Int("jobs", 1, "images whose steps each builder of fleet-1, fleet-2 and fleet-3 runs at once")
	flag.Parse()
	for _, c := range strings.Fields(*cases) {
		if !slices.Contains(allCases, c) && !slices.Contains(onRequest, c) {
			return fmt.Errorf("no such case: %s; there are %s", c, strings.Join(append(allCases, onRequest...), ", "))
		}
	}
	b := &bench{out: *out, jobs: *jobs, cases: strings.Fields(*cases)}
	if *from != "" {
		for _, file := range strings.Fields(*from) {
			if err := b.results.add(file); err != nil {
				return err
			}
		}
		text, err := b.results.write(b.out)
		fmt.Print(text)
		return err
	}
	// A short name: sockets lie below it.
	if b.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.prepare(ctx, *rev, strings.Fields(*engines)); err != nil {
		return err
	}
	for _, kind := range strings.Fields(*engines) {
		if err := b.engine(ctx, kind, *runs); err != nil {
			return err
		}
	}
	text, err := b.results.write(b.out)
	fmt.Print(text)
	return err
}

// prepare makes the binaries and the data, none of it in measured time.
func (b *bench) prepare(ctx context.Context, rev string, engines []string) (err error) {
	root, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return fmt.Errorf("git rev-parse: %w; run this in a checkout", err)
	}
	top := strings.TrimSpace(string(root))
	b.tools.engine = filepath.Join(top, "script", "engine")
	if out, err := exec.CommandContext(ctx, b.tools.engine,
		append([]string{"install", "tests", "debian"}, engines...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("script/engine install: %w\n%s", err, out)
	}
	if b.tools.buildx, err = buildx(ctx); err != nil {
		return err
	}
	if b.tools.ecsbuild, b.results.Commit, err = build(ctx, top, rev, b.dir); err != nil {
		return err
	}
	log.Printf("ecsbuild at %s; making data", b.results.Commit)
	b.results.Cores, b.results.Began = runtime.NumCPU(), time.Now().UTC().Format(time.RFC3339)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		b.results.Load = strings.Join(strings.Fields(string(load))[:2], " ")
	}
	b.workloads = map[string]*workload{}
	for name, make := range map[string]func(string) (*workload, error){"app": app, "eight": eight, "hundred": hundred,
		"linked": linked, "steps": steps, "mounts": mounts, "sixty": sixty, "large": large} {
		if name == "large" && !slices.Contains(b.cases, "large") && !slices.Contains(b.cases, "large-reproducible") {
			continue
		}
		if b.workloads[name], err = make(filepath.Join(b.dir, "workloads", name)); err != nil {
			return err
		}
	}
	b.hub, err = makeHubImages(b.dir)
	return err
}

// engine measures every case on one kind. The ways of a run come one after
// the other, each run beginning with another one, so that what else the
// machine does falls on all of them alike.
func (b *bench) engine(ctx context.Context, kind string, runs int) error {
	rig, err := awstest.Start(filepath.Join(b.dir, "rig-"+kind))
	if err != nil {
		return err
	}
	defer rig.Close()
	t := b.tools
	if t.docker, err = dockerClient(kind); err != nil {
		return err
	}
	path, err := exec.CommandContext(ctx, t.engine, "path", kind).Output()
	if err != nil {
		return fmt.Errorf("script/engine path %s: %w", kind, err)
	}
	t.path = strings.TrimSpace(string(path))
	b.results.note(ctx, kind, t.docker)
	for n := range runs {
		for i := range ways {
			c := chain{bench: b, rig: rig, tools: t, kind: kind, run: n, way: ways[(i+n)%len(ways)]}
			if err := c.all(ctx); err != nil {
				return err
			}
		}
		if _, err := b.results.write(b.out); err != nil { // what is there is kept, whatever comes
			return err
		}
	}
	return nil
}
