package buildspec

import (
	"slices"
	"strings"
)

// An outcome is an image as ecsbuild.yml has it: a build, and one repository that it goes to.
type outcome struct {
	*build
	destination
	tags       []string
	containers []string
	deployed   string // the tag that a definitions file names, "" for none
}

// images are what is pushed, in the order of the builds. Their commands are replaced.
func (c *converter) images() (out []*outcome) {
	for _, b := range c.builds {
		if b.at.why != "" || len(b.pushed) == 0 {
			continue
		}
		for _, r := range b.pushed {
			d, _ := r.destination(c.isSet)
			i := slices.IndexFunc(out, func(o *outcome) bool { return o.build == b && o.destination == d })
			if i < 0 {
				out = append(out, &outcome{build: b, destination: d})
				i = len(out) - 1
			}
			if !slices.Contains(out[i].tags, r.tag) {
				out[i].tags = append(out[i].tags, r.tag)
			}
		}
	}
	for _, cmd := range c.commands {
		if cmd.build != nil && len(cmd.build.pushed) > 0 && cmd.build.at.why == "" {
			cmd.replaced = true
		}
	}
	for _, p := range c.pulls { // for the cache of an image that is built here
		o := c.find(out, p.name)
		if o != nil && !slices.Contains(c.tagged, p.name) && (slices.Contains(o.tags, p.name.tag) || c.isCache(p.name)) {
			p.at.replaced = true
		}
	}
	for _, o := range out {
		if len(o.lists["cache_from"]) > 0 {
			c.notes = append(c.notes, "cache_from is kept as it was, and finds the steps of an image that was built with "+
				"BUILDKIT_INLINE_CACHE=1. cache: registry keeps the steps of all stages, "+
				"and needs no pull beforehand: see docs/speed.md")
			break
		}
	}
	return out
}

// isCache says whether a build reads an image as its cache.
func (c *converter) isCache(r reference) bool {
	return slices.ContainsFunc(c.builds, func(b *build) bool {
		return slices.ContainsFunc(b.lists["cache_from"], func(v string) bool { return strings.Contains(v, r.name) })
	})
}

// find is the image that has a name in a registry.
func (c *converter) find(images []*outcome, r reference) *outcome {
	for _, o := range images {
		for _, p := range o.pushed {
			d, _ := p.destination(c.isSet)
			if p.name == r.name && d == o.destination {
				return o
			}
		}
	}
	return nil
}
