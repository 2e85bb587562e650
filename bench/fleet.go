package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// fleetCases build sixty images on one builder, two and three; the last one in three jobs that have
// a builder each, whose parts are merged.
var fleetCases = []string{"fleet-1", "fleet-2", "fleet-3", "parts-3"}

// fleet measures one of fleetCases, on buildkitds that have seen nothing.
func (c *chain) fleet(ctx context.Context, name string) error {
	w := c.workloads["sixty"]
	if err := c.world(w); err != nil {
		return err
	}
	return c.on(ctx, w, func(h *host) (err error) {
		builders := []string{strings.TrimPrefix(h.address, "BUILDKIT_HOST=")}
		for i := range min(slices.Index(fleetCases, name), 2) {
			dir := filepath.Join(h.dir, fmt.Sprint("e", i+2))
			cmd := h.start(ctx, c.kind, dir)
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("script/engine start: %w", err)
			}
			defer func() {
				_, serr := output(context.Background(), h.tools.engine, "stop", dir)
				err = errors.Join(err, serr)
			}()
			builders = append(builders, strings.TrimPrefix(strings.TrimSpace(string(out)), "BUILDKIT_HOST="))
		}
		way := c.way
		defer func() { c.way = way }()
		if name == "parts-3" {
			c.way.run = inParts
			for i, b := range builders {
				err = errors.Join(err, c.configure(h, fmt.Sprintf("job%d.yml", i+1), b))
			}
		} else {
			err = c.configure(h, "ecsbuild.yml", builders...)
		}
		if err == nil {
			_, err = c.step(ctx, h, name)
		}
		return err
	})
}

// configure writes a configuration of all images with some builders.
func (c *chain) configure(h *host, name string, builders ...string) error {
	yaml := "builder:\n"
	for _, address := range builders {
		yaml += fmt.Sprintf("  - {address: %q, jobs: %d}\n", address, c.jobs)
	}
	images, err := os.ReadFile(filepath.Join(h.workload.dir, "ecsbuild.yml"))
	if err != nil {
		return err
	}
	return write(filepath.Join(h.dir, "src", name), append([]byte(yaml), images...))
}

// inParts is what three jobs and the one after them do.
func inParts(ctx context.Context, h *host, tag string) error {
	env := h.workload.environment(tag)
	jobs, either := errgroup.WithContext(ctx)
	var parts []string
	for i := range 3 {
		args := []string{"run", "--progress", "quiet", "-f", fmt.Sprintf("job%d.yml", i+1)}
		for n, img := range h.workload.images {
			if n%3 == i {
				args = append(args, "--only", img.name)
			}
		}
		part := fmt.Sprintf("part%d.json", i+1)
		parts = append(parts, part)
		own := append(slices.Clone(env), "ECSBUILD_CACHE="+h.cache+part)
		jobs.Go(func() error { return h.command(either, own, h.tools.ecsbuild, append(args, "--part", part)...) })
	}
	if err := jobs.Wait(); err != nil {
		return err
	}
	return h.command(ctx, env, h.tools.ecsbuild, append([]string{"merge", "--progress", "quiet"}, parts...)...)
}
