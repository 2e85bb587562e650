package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/goccy/go-yaml/ast"

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
		if _, err := platforms.Parse(n); err != nil || !strings.Contains(n, "/") {
			return &fault.Error{What: fmt.Sprintf("--platform %s: this is no platform", n), Fix: "write it as in linux/arm64"}
		}
		wanted = append(wanted, plan.NormalPlatform(n))
	}
	var images []plan.Image
	found := map[string]bool{}
	for _, img := range p.Images {
		var mine []string
		for _, have := range img.Build.Platforms {
			if name := plan.NormalPlatform(have); slices.Contains(wanted, name) {
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

// platforms reads a list, in which each is once.
func (d *document) platforms(into *[]string) field {
	f := d.texts("platforms", into, checkPlatform).each(isLike(platformPattern.String()))
	return field{func(n ast.Node) error {
		err := f.read(n)
		seen := map[string]bool{}
		for _, p := range *into {
			if err == nil && seen[plan.NormalPlatform(p)] {
				err = d.fail(n, fmt.Sprintf("duplicate platform %s", plan.NormalPlatform(p)), "keep one of them")
			}
			seen[plan.NormalPlatform(p)] = true
		}
		return err
	}, f.is}
}
