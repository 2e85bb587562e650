package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

var allCases = []string{"new", "new-cache", "same-same", "same-reuse", "same-changed", "changed", "changed-reproducible",
	"changed-private", "changed-cache", "linked", "steps", "steps-local", "mounts", "eight", "hundred", "far-new",
	"far-same-changed", "far-changed", "fleet-1", "fleet-2", "fleet-3", "parts-3"}

// engineTitles are the kinds of script/engine in words.
var engineTitles = map[string]string{
	"codebuild":  "The engine of CodeBuild (dockerd 28.5.2, classic image store)",
	"containerd": "Containerd image store",
	"classic":    "Classic image store",
	"debian":     "Docker 20.10",
	"buildkitd":  "A buildkitd of its own",
}

// titles are the cases in words, for people.
var titles = map[string]string{
	"new":                  "new host",
	"same-same":            "same host, nothing changed",
	"same-reuse":           "same host, nothing changed, reuse",
	"same-changed":         "same host, one line changed",
	"changed":              "new host, one line changed",
	"changed-reproducible": "new host, one line changed, reproducible",
	"changed-private":      "new host, one line changed, private engine",
	"new-cache":            "new host, cache: registry",
	"changed-cache":        "new host, one line changed, cache: registry",
	"linked":               "the same with COPY --link",
	"steps":                "new host, one line changed, 30 s of steps, cache: registry",
	"steps-local":          "the same with cache: local",
	"mounts":               "new host, one line changed, a cache mount of 300 MB, cache_mounts",
	"eight":                "eight small images",
	"hundred":              "a hundred tiny images",
	"far-new":              "new engine on another host",
	"far-same-changed":     "the same engine, a new build container, one line changed",
	"far-changed":          "new engine on another host, one line changed",
	"fleet-1":              "sixty images on one builder",
	"fleet-2":              "sixty images on two builders",
	"fleet-3":              "sixty images on three builders",
	"parts-3":              "sixty images in three jobs, each with a builder",
}

// onRequest are cases that take twenty gigabytes of disk.
var onRequest = []string{"large", "large-reproducible"}

// An ask is a case in which ecsbuild is asked for something: other ways do the same by
// what they have for it, or stand beside it with a case in which nobody asks.
type ask struct {
	keys     string   // of each image, in an ecsbuild.yml of the checkout's own
	env      []string // of ecsbuild
	workload string   // "" for app
	host     string   // where it is measured: "first", "same", or "other" for a new one after a first, with a line changed
	ways     []string // that do it; the others stand beside it
	beside   string   // the case of the others
	cached   bool     // bake has the best cache that it can have on the engine
	kept     bool     // the CI keeps ECSBUILD_CACHE from host to host
}

var (
	alone = []string{"ecsbuild"}
	every = []string{"shell", "bake", "ecsbuild", "bare"}
	twice = []string{"bake", "ecsbuild"}
)

var asks = map[string]ask{
	"new-cache":            {keys: "cache: registry", host: "first", ways: twice, beside: "new", cached: true},
	"same-reuse":           {keys: "reuse: true", host: "same", ways: alone, beside: "same-same"},
	"changed-reproducible": {keys: "reproducible: true", host: "other", ways: alone, beside: "changed"},
	"changed-private":      {env: []string{"ECSBUILD_BUILDER=private"}, host: "other", ways: alone, beside: "changed"},
	"changed-cache":        {keys: "cache: registry", host: "other", ways: twice, beside: "changed", cached: true},
	"linked":               {keys: "cache: registry", workload: "linked", host: "other", ways: every, cached: true},
	"steps":                {keys: "cache: registry", workload: "steps", host: "other", ways: every, cached: true},
	"mounts":               {keys: "cache_mounts: true", workload: "mounts", host: "other", ways: every, cached: true},
	"steps-local":          {keys: "cache: local", workload: "steps", host: "other", ways: alone, beside: "steps", kept: true},
}

// A chain is what one way goes through in one run. The cases of app follow
// from each other: a new host; the same one again; the same one after a
// change; and, with what these left in the registry, another new host after
// another change.
type chain struct {
	*bench
	rig   *awstest.Rig
	tools tools
	kind  string
	run   int
	way   way
	tags  int

	far        bool   // engines are on another host
	ask        ask    // that is measured
	keptFolder string // that the CI keeps, "" for none
}

func (c *chain) wants(cases ...string) bool {
	return slices.ContainsFunc(cases, func(s string) bool { return slices.Contains(c.cases, s) })
}

// hostsFolder holds the hosts of all chains that have not ended.
func (c *chain) hostsFolder() string { return filepath.Join(c.dir, "h") }

func (c *chain) all(ctx context.Context) (err error) {
	if c.kind == "buildkitd" && c.way.name != "ecsbuild" {
		return nil // the docker client has no way there
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(c.hostsFolder()))
		syscall.Sync()
	}()
	if c.wants("new", "same-same", "same-changed", "changed") {
		if err := c.app(ctx, ""); err != nil {
			return err
		}
	}
	if c.wants("far-new", "far-same-changed", "far-changed") && slices.Contains(farKinds, c.kind) && c.way.name != "bake" {
		c.far = true
		if err := c.app(ctx, "far-"); err != nil {
			return err
		}
		c.far = false
	}
	for _, name := range slices.Sorted(maps.Keys(asks)) {
		if c.wants(name) && slices.Contains(asks[name].ways, c.way.name) {
			if err := c.asked(ctx, name); err != nil {
				return err
			}
		}
	}
	if c.wants("eight") {
		if err := c.once(ctx, "eight", c.workloads["eight"]); err != nil {
			return err
		}
	}
	if c.way.name != "ecsbuild" {
		return nil
	}
	for _, name := range fleetCases {
		if c.wants(name) && c.kind == "buildkitd" {
			if err := c.fleet(ctx, name); err != nil {
				return err
			}
		}
	}
	if c.kind == "buildkitd" {
		return nil // which is here for them
	}
	for name, w := range map[string]*workload{"hundred": c.workloads["hundred"], "large": c.workloads["large"],
		"large-reproducible": c.workloads["large"].with("reproducible: true")} {
		if !c.wants(name) {
			continue
		}
		if err := c.once(ctx, name, w); err != nil {
			return err
		}
	}
	return nil
}

// farKinds are the engines that people have on another host.
var farKinds = []string{"codebuild", "debian"}

// app measures the cases of app whose names begin with a prefix.
func (c *chain) app(ctx context.Context, prefix string) error {
	w := c.workloads["app"]
	if err := c.world(w); err != nil {
		return err
	}
	err := c.on(ctx, w, func(h *host) error {
		ok, err := c.step(ctx, h, prefix+"new")
		if err != nil || !ok {
			return err // where a way fails on a new host, the rest has no base
		}
		if c.wants(prefix + "same-same") {
			if _, err := c.step(ctx, h, prefix+"same-same"); err != nil {
				return err
			}
		}
		if !c.wants(prefix + "same-changed") {
			return nil
		}
		if c.far { // the build container is a new one each time
			h.cache = filepath.Join(h.home(), "another")
		}
		if err := change(filepath.Join(h.dir, "src"), c.tags); err != nil {
			return err
		}
		_, err = c.step(ctx, h, prefix+"same-changed")
		return err
	})
	if err != nil || !c.wants(prefix+"changed") {
		return err
	}
	return c.on(ctx, w, func(h *host) error {
		if err := change(filepath.Join(h.dir, "src"), c.tags); err != nil {
			return err
		}
		_, err := c.step(ctx, h, prefix+"changed")
		return err
	})
}

// asked measures one ask on the host that it is for.
func (c *chain) asked(ctx context.Context, name string) error {
	a := asks[name]
	w := c.workloads[cmp.Or(a.workload, "app")]
	if c.way.name == "ecsbuild" && a.keys != "" {
		w = w.with(a.keys)
	}
	c.ask, c.keptFolder = a, ""
	if err := c.world(w); err != nil {
		return err
	}
	if a.kept {
		c.hosts++
		c.keptFolder = filepath.Join(c.dir, fmt.Sprintf("kept%d", c.hosts))
	}
	defer func() { c.ask, c.keptFolder = ask{}, "" }()
	again := func(h *host) error { _, err := c.step(ctx, h, name); return err }
	failed := false
	err := c.on(ctx, w, func(h *host) error {
		if a.host == "first" {
			return again(h)
		}
		ok, err := c.step(ctx, h, "before")
		if err != nil || !ok || a.host == "other" {
			failed = !ok
			return err
		}
		return again(h)
	})
	if err != nil || failed || a.host != "other" {
		return err
	}
	return c.on(ctx, w, func(h *host) error {
		return errors.Join(change(filepath.Join(h.dir, "src"), c.tags), again(h))
	})
}

func (c *chain) once(ctx context.Context, name string, w *workload) error {
	if err := c.world(w); err != nil {
		return err
	}
	return c.on(ctx, w, func(h *host) error { _, err := c.step(ctx, h, name); return err })
}

// world makes an AWS that has seen nothing yet, with the repositories.
func (c *chain) world(w *workload) error {
	if err := c.rig.Reset(); err != nil {
		return err
	}
	for _, img := range w.images {
		c.rig.AddRepository(awstest.Account, img.name, false)
	}
	switch {
	case c.way.open:
		c.rig.SetPolicy([]awstest.Grant{{Action: "*", Resource: "*"}})
	case c.ask.cached: // cache: registry and cache_mounts ask for them by name
		c.rig.Allow("ecr:BatchGetImage")
		c.rig.Allow("ecr:GetDownloadUrlForLayer")
	}
	return c.hub.fill(c.rig)
}

// on returns f a new host.
func (c *chain) on(ctx context.Context, w *workload, f func(*host) error) error {
	c.hosts++
	h, err := newHost(ctx, c.rig, c.tools, c.kind, filepath.Join(c.hostsFolder(), strconv.Itoa(c.hosts)), w, c.far)
	if err != nil {
		return err
	}
	h.ask, h.kind, h.cache = c.ask, c.kind, cmp.Or(c.keptFolder, filepath.Join(h.home(), "cache"))
	return errors.Join(f(h), h.close())
}

// step measures one case, under a tag of its own as each commit has one.
// ok is false where the way failed; that is a result and ends nothing.
func (c *chain) step(ctx context.Context, h *host, name string) (ok bool, err error) {
	c.tags++
	s, err := h.measure(ctx, c.way, fmt.Sprintf("t%d", c.tags))
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	s.Engine, s.Case, s.Run = c.kind, name, c.run+1
	if err != nil {
		s.Failed = err.Error()
		c.keep(s, err)
	}
	log.Printf("%-10s run %d  %-12s %-8s %6.2f s  %6.1f MB  %3d requests  %s", c.kind, s.Run, name, c.way.name, s.Seconds,
		float64(s.Sent)/1e6, s.Requests, s.Failed)
	if c.wants(name) {
		c.results.Samples = append(c.results.Samples, s)
	}
	return err == nil, nil
}

// keep writes the whole output of a command that failed beside the results.
func (c *chain) keep(s sample, err error) {
	var e *commandError
	if errors.As(err, &e) {
		file := filepath.Join(c.out, fmt.Sprintf("failed-%s-%s-%s.log", s.Engine, s.Case, s.Way))
		_ = write(file, []byte(e.output))
	}
}
