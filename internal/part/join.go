package part

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// A Whole is what all parts of one build must have in common.
type Whole struct {
	Images   []plan.Image
	Lines    []string // of the plan
	Commit   string
	Checkout string // git's commit, "" where there is none
}

// Named is a part, and what the user calls its file.
type Named struct {
	File
	Name string
}

// Joined is what parts come to.
type Joined struct {
	Artifacts []*image.Artifact // in the order of the images
	Registry  string            // its host
	Warnings  []string
}

// Join checks that parts are of one build and that every image is there once. Its errors are
// fault.Errors: all that is wrong.
func Join(w Whole, parts []Named) (*Joined, error) {
	var errs fault.Errors
	checkout, of := w.Checkout, "this checkout"
	fail := func(fix, format string, args ...any) {
		errs = append(errs, &fault.Error{What: fmt.Sprintf(format, args...), Fix: fix})
	}
	for i, p := range parts {
		if line := difference(w.Lines, p.Plan); line != "" {
			fail("merge parts that were built with this configuration and these variables, such as IMAGE_TAG",
				"%s is of another plan: %s", p.Name, line)
		}
		if p.Commit != w.Commit {
			fail("check out the commit that was built, and merge parts of that one", "%s is of %s, and this is %s", p.Name,
				commit(p.Commit), commit(w.Commit))
		}
		switch {
		case p.Checkout == "" || p.Commit != w.Commit:
		case checkout == "":
			checkout, of = p.Checkout, p.Name
		case p.Checkout != checkout:
			fail("build all parts from one checkout", "%s was built from %s, and %s is of %s", p.Name, commit(p.Checkout), of,
				commit(checkout))
		}
		if p.Registry != parts[0].Registry {
			fail("build all parts for one registry", "%s went to %s, and %s to %s", p.Name, p.Registry, parts[0].Name,
				parts[0].Registry)
		}
		for _, other := range parts[:i] {
			if other.Name == p.Name {
				fail("name each part once", "duplicate part %s", p.Name)
			}
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	j := &Joined{Registry: parts[0].Registry}
	for _, img := range w.Images {
		a, e := joinImage(img, parts)
		errs = append(errs, e...)
		j.Artifacts = append(j.Artifacts, a)
		if names := differentArgs(img, parts); len(names) > 0 {
			j.Warnings = append(j.Warnings, fmt.Sprintf("%s: its platforms were built with different build arguments: %s",
				img.Name(), strings.Join(names, ", ")))
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return j, nil
}

// differentArgs are the arguments of which the platforms of an image had different values.
func differentArgs(img plan.Image, parts []Named) []string {
	var pieces []map[string]string
	for _, p := range parts {
		for _, i := range p.Images {
			if i.Name == img.Name() && len(i.Platforms) > 0 {
				pieces = append(pieces, i.Args)
			}
		}
	}
	different := map[string]bool{}
	for _, args := range pieces {
		for _, others := range pieces {
			for name, sum := range args {
				if others[name] != sum {
					different[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(different))
}

func commit(c string) string {
	if c == "" {
		return "an unknown commit"
	}
	return "commit " + c[:min(12, len(c))]
}

// difference is the first line that two plans do not have in common, "" for none.
func difference(want, got []string) string {
	for i := range max(len(want), len(got)) {
		line := func(lines []string) string {
			if i < len(lines) {
				return fmt.Sprintf("%q", strings.Join(strings.Fields(lines[i]), " "))
			}
			return "nothing more"
		}
		if a, b := line(want), line(got); a != b {
			return fmt.Sprintf("it has %s where this plan has %s", b, a)
		}
	}
	return ""
}

// joinImage finds an image in the parts: once as a whole, or each of its platforms once.
func joinImage(img plan.Image, parts []Named) (*image.Artifact, fault.Errors) {
	const rebuild = "build it in one part, together with the images that are built on it"
	var whole []string                                              // names of parts
	var found *image.Artifact                                       // of one of those
	pieces, where := map[string]image.Part{}, map[string][]string{} // by platform
	for _, p := range parts {
		for _, i := range p.Images {
			if i.Name != img.Name() {
				continue
			}
			a := &image.Artifact{Manifests: i.Manifests}
			if len(i.Platforms) == 0 {
				if found == nil || found.Root().Digest != a.Root().Digest { // of the same it takes one
					whole, found = append(whole, p.Name), a
				}
				continue
			}
			if other, ok := pieces[i.Platforms[0]]; ok && other.Artifact.Root().Digest == a.Root().Digest {
				continue
			}
			for _, platform := range i.Platforms {
				where[platform] = append(where[platform], p.Name)
			}
			pieces[i.Platforms[0]] = image.Part{Platforms: i.Platforms, Artifact: a}
		}
	}
	var errs fault.Errors
	fail := func(fix, format string, args ...any) {
		errs = append(errs, &fault.Error{What: fmt.Sprintf(format, args...), Fix: fix})
	}
	switch {
	case len(whole) == 1 && len(where) == 0:
		return found, nil
	case len(whole) > 1:
		fail(rebuild, "the image %s is in several parts: %s", img.Name(), strings.Join(whole, " and "))
		return nil, errs
	case len(whole) > 0:
		fail(rebuild, "the image %s is in %s as a whole, and by platforms in other parts", img.Name(), whole[0])
		return nil, errs
	case len(where) == 0:
		fail("add the part that it was built in", "no part has the image %s", img.Name())
		return nil, errs
	}
	var ordered []image.Part
	for _, platform := range img.Build.Platforms {
		platform = plan.NormalPlatform(platform)
		switch in := where[platform]; len(in) {
		case 0:
			fail("add the part that it was built in", "no part has the image %s for %s", img.Name(), platform)
		case 1:
			if p, ok := pieces[platform]; ok {
				ordered = append(ordered, p)
			}
		default:
			fail(rebuild, "the image %s for %s is in several parts: %s", img.Name(), platform, strings.Join(in, " and "))
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	if len(ordered) == 1 {
		return ordered[0].Artifact, nil
	}
	joined, err := image.Join(ordered)
	if err != nil {
		fail("", "the image %s: %v", img.Name(), err)
	}
	return joined, errs
}
