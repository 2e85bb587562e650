package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// keepPlatforms keeps some platforms of each image, and the images that have one of them. Others
// are built elsewhere. What an image is built on has its platforms, too.
func keepPlatforms(p *plan.Plan, names []string) error {
	if len(names) == 0 {
		return nil
	}
	var wanted []string
	for _, n := range names {
		parsed, err := platforms.Parse(n)
		if err != nil || !strings.Contains(n, "/") {
			return &fault.Error{What: fmt.Sprintf("--platform %s: this is no platform", n), Fix: "write it as in linux/arm64"}
		}
		wanted = append(wanted, platforms.Format(platforms.Normalize(parsed)))
	}
	var images []plan.Image
	found := map[string]bool{}
	for _, img := range p.Images {
		var mine []string
		for _, have := range img.Build.Platforms {
			parsed, err := platforms.Parse(have)
			if err != nil {
				continue // which the engine refuses
			}
			if name := platforms.Format(platforms.Normalize(parsed)); slices.Contains(wanted, name) {
				mine, found[name] = append(mine, name), true
			}
		}
		switch {
		case len(mine) == 0 && len(img.Build.Platforms) == 0:
			p.Notes = append(p.Notes, fmt.Sprintf("left out with --platform: %s, which names no platforms", img.Name()))
			continue
		case len(mine) == 0:
			p.Notes = append(p.Notes, fmt.Sprintf("left out with --platform: %s, which is for %s", img.Name(),
				strings.Join(img.Build.Platforms, " and ")))
			continue
		case len(mine) < len(img.Build.Platforms):
			img = img.ForPlatforms(mine)
		}
		images = append(images, img)
	}
	for _, w := range wanted {
		if !found[w] {
			return &fault.Error{What: fmt.Sprintf("--platform %s: no image has this platform", w),
				Fix: "add it to platforms of an image"}
		}
	}
	p.Images = images
	return nil
}
