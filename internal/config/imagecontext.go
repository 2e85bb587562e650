package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// servicePrefix begins a context that is another image of the file, as Compose writes it.
// https://docs.docker.com/reference/compose-file/build/#additional_contexts
const servicePrefix = "service:"

// linkImages finds the images that others are built on.
func (b *resolver) linkImages(configs []imageConfig) error {
	var errs fault.Errors
	images := b.plan.Images
	for i := range images {
		build := &images[i].Build
		for _, context := range sortedKeys(build.AdditionalContexts) {
			name, ok := strings.CutPrefix(build.AdditionalContexts[context], servicePrefix)
			if !ok {
				continue
			}
			delete(build.AdditionalContexts, context)
			base, e := findImage(images, name)
			if e == nil {
				e = checkBase(images[i], *base)
			}
			key := plan.ContextName(context)
			if e == nil && key == "" {
				e = &fault.Error{What: fmt.Sprintf("additional_contexts: %q is no name that a Dockerfile can have for an image",
					context),
					Fix: "write it in lower case, as in base or shop/base"}
			}
			if e != nil {
				e.Place = configs[i].place
				errs = append(errs, e)
				continue
			}
			if build.ImageContexts == nil {
				build.ImageContexts = map[string]string{}
			}
			build.ImageContexts[key] = base.Name()
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if cycle := findCycle(images); cycle != nil {
		return &fault.Error{What: "images are built on each other: " + strings.Join(cycle, " is built on "),
			Fix: "take a service:… out of additional_contexts of one of them"}
	}
	b.passOnNoCache()
	return nil
}

// passOnNoCache has what is built on an image without a cache have none either: BuildKit
// would take the results of steps that had run on an older one.
func (b *resolver) passOnNoCache() {
	builds := map[string]*plan.Build{}
	for _, i := range b.plan.BuildOrder() {
		img := &b.plan.Images[i]
		builds[img.Name()] = &img.Build
		for _, context := range sortedKeys(img.Build.ImageContexts) {
			if base := img.Build.ImageContexts[context]; builds[base].NoCache && !img.Build.NoCache {
				img.Build.NoCache = true
				b.note("%s is built without the cache, as %s is, which it is built on", img.Name(), base)
			}
		}
	}
}

// findImage finds the image of a container, or of the name that messages call it by, or else
// of a repository, which may be a URI.
func findImage(images []plan.Image, name string) (*plan.Image, *fault.Error) {
	repository := name
	if d, e := parseDestination(name); e == nil {
		repository = d.repository
	}
	var found, others []*plan.Image
	var all []string
	for i, img := range images {
		all = append(all, img.Names()...)
		if img.Name() == name || slices.Contains(img.Containers, name) {
			found = append(found, &images[i])
		}
		if img.Repository == repository {
			others = append(others, &images[i])
		}
	}
	if len(found) == 0 {
		found = others
	}
	switch len(found) {
	case 0:
		return nil, &fault.Error{What: fmt.Sprintf("additional_contexts: service:%s is no image of this file", name),
			Fix: fault.DidYouMean(name, all) + "the images are " + strings.Join(all, ", ")}
	case 1:
		return found[0], nil
	}
	return nil, &fault.Error{What: fmt.Sprintf("additional_contexts: service:%s may be %s or %s", name, found[0].Name(),
		found[1].Name()),
		Fix: "name one of them"}
}

// checkBase says why an image cannot be built on another one of the plan, or nil.
func checkBase(img, base plan.Image) *fault.Error {
	own, below := img.Build.Platforms, base.Build.Platforms
	missing := slices.DeleteFunc(slices.Clone(own), func(p string) bool { return slices.Contains(below, p) })
	switch {
	case img.Name() == base.Name():
		return &fault.Error{What: fmt.Sprintf("additional_contexts: %s would be built on itself", img.Name())}
	case len(missing) > 0 || len(own) == 0 && len(below) > 0:
		return &fault.Error{What: fmt.Sprintf("%s is built on %s, and for other platforms: %s, and %s", img.Name(),
			base.Name(),
			orEngines(own), orEngines(below)), Fix: "give them the same platforms"}
	case img.Build.Reproducible != base.Build.Reproducible:
		return &fault.Error{What: fmt.Sprintf("%s is built on %s, and only one of them is reproducible", img.Name(),
			base.Name()),
			Why: "the times of the files that they share would differ", Fix: "give reproducible to both, or to none"}
	case img.Reuse || base.Reuse:
		return &fault.Error{What: fmt.Sprintf("reuse, where %s is built on %s", img.Name(), base.Name()),
			Why: "an image that is not built is not there for the other one", Fix: "leave reuse out of both"}
	}
	return nil
}

func orEngines(platforms []string) string {
	if len(platforms) == 0 {
		return "that of the engine"
	}
	return strings.Join(platforms, ", ")
}

// findCycle returns images that are built on each other, the first one again at the end, or
// nil.
func findCycle(images []plan.Image) []string {
	builds := map[string]plan.Build{}
	for _, img := range images {
		builds[img.Name()] = img.Build
	}
	done := map[string]bool{}
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		if i := slices.Index(path, name); i >= 0 {
			return append(slices.Clone(path[i:]), name)
		}
		if done[name] {
			return nil
		}
		done[name] = true
		path = append(path, name)
		for _, context := range sortedKeys(builds[name].ImageContexts) {
			if cycle := visit(builds[name].ImageContexts[context]); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		return nil
	}
	for _, img := range images {
		if cycle := visit(img.Name()); cycle != nil {
			return cycle
		}
	}
	return nil
}
