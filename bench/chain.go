package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"path/filepath"
	"slices"

	"github.com/ecsbuild/ecsbuild/internal/awstest"
)

var allCases = []string{"new", "same-same", "same-reuse", "same-changed", "changed", "changed-reproducible", "eight",
	"hundred"}

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
	"eight":                "eight small images",
	"hundred":              "a hundred tiny images",
}

// onRequest are cases that take twenty gigabytes of disk.
var onRequest = []string{"large", "large-reproducible"}

// asks are the cases that ecsbuild does another way on request, and the case
// of the others that they stand beside.
var asks = map[string]struct{ keys, beside string }{
	"same-reuse":           {"reuse: true", "same-same"},
	"changed-reproducible": {"reproducible: true", "changed"},
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
}

func (c *chain) wants(cases ...string) bool {
	return slices.ContainsFunc(cases, func(s string) bool { return slices.Contains(c.cases, s) })
}

func (c *chain) all(ctx context.Context) error {
	if c.wants("new", "same-same", "same-changed", "changed") {
		if err := c.app(ctx); err != nil {
			return err
		}
	}
	if c.way.name == "ecsbuild" {
		for _, name := range slices.Sorted(maps.Keys(asks)) {
			if c.wants(name) {
				if err := c.asked(ctx, name); err != nil {
					return err
				}
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

func (c *chain) app(ctx context.Context) error {
	w := c.workloads["app"]
	if err := c.world(w); err != nil {
		return err
	}
	err := c.on(ctx, w, func(h *host) error {
		ok, err := c.step(ctx, h, "new")
		if err != nil || !ok {
			return err // where a way fails on a new host, the rest has no base
		}
		if c.wants("same-same") {
			if _, err := c.step(ctx, h, "same-same"); err != nil {
				return err
			}
		}
		if !c.wants("same-changed") {
			return nil
		}
		if err := change(filepath.Join(h.dir, "src"), c.tags); err != nil {
			return err
		}
		_, err = c.step(ctx, h, "same-changed")
		return err
	})
	if err != nil || !c.wants("changed") {
		return err
	}
	return c.on(ctx, w, func(h *host) error {
		if err := change(filepath.Join(h.dir, "src"), c.tags); err != nil {
			return err
		}
		_, err := c.step(ctx, h, "changed")
		return err
	})
}

// asked is app with a key more in ecsbuild.yml: on the same host with nothing
// changed, or on another one with a line changed.
func (c *chain) asked(ctx context.Context, name string) error {
	w := c.workloads["app"].with(asks[name].keys)
	if err := c.world(w); err != nil {
		return err
	}
	again := func(h *host) error { _, err := c.step(ctx, h, name); return err }
	err := c.on(ctx, w, func(h *host) error {
		if ok, err := c.step(ctx, h, "before"); err != nil || !ok || asks[name].beside == "changed" {
			return err
		}
		return again(h)
	})
	if err != nil || asks[name].beside != "changed" {
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
	if c.way.open {
		c.rig.SetPolicy([]awstest.Grant{{Action: "*", Resource: "*"}})
	}
	return c.hub.fill(c.rig)
}

// on returns f a new host.
func (c *chain) on(ctx context.Context, w *workload, f func(*host) error) error {
	c.hosts++
	h, err := newHost(ctx, c.rig, c.tools, c.kind, filepath.Join(c.dir, fmt.Sprintf("h%d", c.hosts)), w)
	if err != nil {
		return err
	}
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
