package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fleetCases build sixty images on one builder, two and three.
var fleetCases = []string{"fleet-1", "fleet-2", "fleet-3"}

// fleet measures one of fleetCases, on buildkitds that have seen nothing.
func (c *chain) fleet(ctx context.Context, name string) error {
	w := c.workloads["sixty"]
	if err := c.world(w); err != nil {
		return err
	}
	return c.on(ctx, w, func(h *host) (err error) {
		addresses := []string{h.address}
		for i := range slices.Index(fleetCases, name) {
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
			addresses = append(addresses, strings.TrimSpace(string(out)))
		}
		file := filepath.Join(h.dir, "src", "ecsbuild.yml")
		yaml, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		list := "builder:\n"
		for _, a := range addresses {
			list += fmt.Sprintf("  - {address: %q, jobs: %d}\n", strings.TrimPrefix(a, "BUILDKIT_HOST="), c.jobs)
		}
		if err := write(file, append([]byte(list), yaml...)); err != nil {
			return err
		}
		_, err = c.step(ctx, h, name)
		return err
	})
}
