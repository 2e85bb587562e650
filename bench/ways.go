package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

// A way brings a workload's images into the registry under a tag.
type way struct {
	name string
	run  func(ctx context.Context, h *host, tag string) error
	// open ways may do anything on AWS: bake reads manifests back on every
	// engine, docker push on one with the containerd store. ecsbuild gets the
	// exact policy.
	open   bool
	pushes bool
}

var ways = []way{
	{"shell", shell, true, true},
	{"bake", bake, true, true},
	{"ecsbuild", ecsbuild, false, true},
	{"bare", bare, false, false},
}

// shell is what buildspecs do: build one after the other, then push one after
// the other. docker login is left out of the time.
func shell(ctx context.Context, h *host, tag string) error {
	for _, img := range h.workload.images {
		if err := h.command(ctx, nil, h.tools.docker, "build", "-f", img.dockerfile, "-t", h.reference(img, tag),
			img.context); err != nil {
			return err
		}
	}
	for _, img := range h.workload.images {
		if err := h.command(ctx, nil, h.tools.docker, "push", h.reference(img, tag)); err != nil {
			return err
		}
	}
	return nil
}

// bake is docker buildx bake --push on the engine itself (the docker driver),
// which is what it uses where nobody has set up another.
func bake(ctx context.Context, h *host, tag string) error {
	type target struct {
		Context    string   `json:"context"`
		Dockerfile string   `json:"dockerfile"`
		Tags       []string `json:"tags"`
		CacheFrom  []string `json:"cache-from,omitempty"`
		CacheTo    []string `json:"cache-to,omitempty"`
	}
	group, targets := []string{}, map[string]target{}
	for _, img := range h.workload.images {
		dockerfile, err := filepath.Rel(img.context, img.dockerfile) // bake's is relative to the context
		if err != nil {
			return err
		}
		group = append(group, img.name)
		t := target{Context: img.context, Dockerfile: dockerfile, Tags: []string{h.reference(img, tag)}}
		if h.ask.cached {
			t.CacheFrom, t.CacheTo = h.bakeCache(img)
			if h.kind != "containerd" { // an inline cache lies in the image itself
				t.Tags = append(t.Tags, h.reference(img, "cache"))
			}
		}
		targets[img.name] = t
	}
	data, err := json.Marshal(map[string]any{"group": map[string]any{"default": map[string]any{"targets": group}},
		"target": targets})
	if err != nil {
		return err
	}
	file := filepath.Join(h.dir, "docker-bake.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return err
	}
	return h.command(ctx, nil, h.tools.docker, "buildx", "bake", "--push", "--progress", "plain", "-f", file)
}

// bakeCache is the best cache that bake can have on the engine: the classic store has none
// but inline.
func (h *host) bakeCache(img image) (from, to []string) {
	if h.kind == "containerd" {
		ref := "type=registry,ref=" + h.reference(img, "buildcache")
		return []string{ref}, []string{ref + ",mode=max,image-manifest=true,oci-mediatypes=true"}
	}
	return []string{"type=registry,ref=" + h.reference(img, "cache")}, []string{"type=inline"}
}

func ecsbuild(ctx context.Context, h *host, tag string) error {
	return h.command(ctx, append(h.workload.environment(tag), h.ask.env...), h.tools.ecsbuild, "run", "--progress", "quiet")
}

// bare builds the same images at once and leaves them in the engine: the time
// that no way of pushing can be below.
func bare(ctx context.Context, h *host, tag string) error {
	return h.command(ctx, h.workload.environment(tag), h.tools.ecsbuild, "run", "--dry-run", "--progress", "quiet")
}

func (h *host) reference(img image, tag string) string {
	return h.rig.Host(awstest.Account) + "/" + img.name + ":" + tag
}

// command runs one in the checkout, sees that nothing of the caller's
// environment reaches it, and keeps the largest peak of memory, in bytes.
func (h *host) command(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = filepath.Join(h.dir, "src")
	cmd.Env = append([]string{"PATH=" + h.tools.path + ":" + os.Getenv("PATH"), "HOME=" + h.home(), "DOCKER_BUILDKIT=1",
		"ECSBUILD_CACHE=" + h.cache, "AWS_ACCOUNT_ID=" +
			awstest.Account, h.address}, h.rig.Environ()...)
	cmd.Env = append(cmd.Env, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	if err == nil {
		ended := make(chan struct{})
		peak := peakMemory(cmd.Process.Pid, ended)
		err = cmd.Wait()
		close(ended)
		most := <-peak
		h.mu.Lock()
		h.peak = max(h.peak, most)
		h.mu.Unlock()
	}
	if err != nil {
		return &commandError{command: filepath.Base(name) + " " + args[0], output: out.String(), err: err}
	}
	return nil
}

// peakMemory watches the most memory that a process has had, in bytes, until it has
// ended. Its rusage would begin with the memory of the process that started it.
func peakMemory(pid int, ended <-chan struct{}) <-chan int64 {
	out := make(chan int64, 1)
	go func() {
		var peak int64
		for {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if m := highWaterMark.FindSubmatch(status); m != nil {
				kB, _ := strconv.ParseInt(string(m[1]), 10, 64)
				peak = max(peak, kB<<10)
			}
			select {
			case <-ended:
				out <- peak
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return out
}

var highWaterMark = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB`)

type commandError struct {
	command, output string
	err             error
}

var reason = regexp.MustCompile(`(?m)^(?:ERROR|error|ecsbuild|unable|denied)\b.*`)

// Error is the line that gives the reason; the whole output goes to a file.
func (e *commandError) Error() string {
	if lines := reason.FindAllString(e.output, -1); len(lines) > 0 {
		return lines[len(lines)-1]
	}
	lines := strings.Split(strings.TrimSpace(e.output), "\n")
	return fmt.Sprintf("%s: %v: %s", e.command, e.err, lines[len(lines)-1])
}
