package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// replaceOutput puts another file name in the place of the single definitions file.
func replaceOutput(p *plan.Plan, name string) error {
	switch {
	case name == "":
	case len(p.Definitions) == 0:
		return &fault.Error{What: "--output names a file, and this configuration writes none",
			Fix: "name a container (CONTAINER_NAME, or container in ecsbuild.yml), or leave --output out"}
	case len(p.Definitions) != 1:
		return &fault.Error{What: "--output names one file, but the configuration has several definitions",
			Fix: "leave --output out, or configure a single file under definitions"}
	default:
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.Directory, name)
		}
		p.Definitions[0].File = name
	}
	return nil
}

// keepOnly keeps the images with these names or containers, and of each definitions file
// what is left of it.
func keepOnly(p *plan.Plan, names []string) error {
	if len(names) == 0 {
		return nil
	}
	var all []string
	var images []plan.Image
	kept, containers := map[string]bool{}, map[string][]string{} // by name
	wanted := func(name string) bool { return slices.Contains(names, name) }
	for _, img := range p.Images {
		all = append(all, img.Names()...)
		if wanted(img.Name()) || slices.ContainsFunc(img.Containers, wanted) {
			kept[img.Name()], containers[img.Name()] = true, img.Containers
			images = append(images, img)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(images, func(img plan.Image) bool { return n == img.Name() || slices.Contains(img.Containers, n) }) {
			return &fault.Error{What: fmt.Sprintf("--only %s: there is no such image", n),
				Fix: fault.DidYouMean(n, all) + "the images are " + strings.Join(all, ", ")}
		}
	}
	for _, img := range images {
		for _, context := range sortedKeys(img.Build.ImageContexts) {
			if base := img.Build.ImageContexts[context]; !kept[base] {
				return &fault.Error{What: fmt.Sprintf("--only leaves out %s, which %s is built on", base, img.Name()),
					Fix: "add --only " + base}
			}
		}
	}
	var gates []plan.Gate
	for _, g := range p.Gates {
		if v := missingVariable(g, p.Images, kept); v != "" {
			p.Notes = append(p.Notes, fmt.Sprintf("left out with --only: the gate %s, which uses %s", firstLine(g.Command), v))
			continue
		}
		gates = append(gates, g)
	}
	p.Images, p.Gates = images, gates
	var defs []plan.Definitions
	for _, d := range p.Definitions {
		var entries []plan.Entry
		built := false
		for _, e := range d.Entries {
			if e.URI != "" || kept[e.Image] && (wanted(e.Container) || wanted(e.Image) || !slices.Contains(containers[e.Image], e.Container)) {
				entries = append(entries, e)
				built = built || e.URI == ""
			}
		}
		if d.Entries = entries; built {
			defs = append(defs, d)
		} else {
			p.Notes = append(p.Notes, fmt.Sprintf("left out with --only: %s, which names none of these images", filepath.Base(d.File)))
		}
	}
	p.Definitions = defs
	return nil
}

func firstLine(text string) string {
	line, more, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if more != "" {
		line += " …"
	}
	return line
}

// missingVariable is one that a gate uses of an image that is not kept, "" for none.
func missingVariable(g plan.Gate, images []plan.Image, kept map[string]bool) string {
	for _, img := range images {
		for _, name := range img.Names() {
			v := "ECSBUILD_IMAGE_" + plan.Variable(name)
			uses := regexp.MustCompile(`\b` + v + `\b`)
			if !kept[img.Name()] && uses.MatchString(g.Command) {
				return v
			}
		}
	}
	return ""
}

// checkFiles says what is missing on disk, all of it at once.
func checkFiles(p *plan.Plan) error {
	var errs fault.Errors
	for _, img := range p.Images {
		errs = append(errs, checkBuild(img.Build, img.Name())...)
	}
	return errs.OrNil()
}

func checkBuild(b plan.Build, name string) (errs fault.Errors) {
	folder := func(what, dir string) bool {
		st, err := os.Stat(dir)
		if err == nil && st.IsDir() {
			return true
		}
		errs = append(errs, &fault.Error{What: fmt.Sprintf("%s: the %s %s is not a folder", name, what, dir),
			Fix: "paths start at the folder of the configuration file, or at -C"})
		return false
	}
	if plan.Remote(b.Context) {
		return nil
	}
	if !folder("build context", b.Context) {
		return errs
	}
	if st, err := os.Stat(b.Dockerfile); err != nil || st.IsDir() {
		errs = append(errs, &fault.Error{What: fmt.Sprintf("%s: there is no Dockerfile at %s", name, b.Dockerfile),
			Fix: nearbyDockerfiles(b.Context)})
	}
	for _, n := range sortedKeys(b.AdditionalContexts) {
		if dir := b.AdditionalContexts[n]; !plan.Remote(dir) {
			folder("additional context "+n, dir)
		}
	}
	return errs
}

// nearbyDockerfiles lists what the user may have meant, a few levels deep.
func nearbyDockerfiles(dir string) string {
	var found []string
	for _, pat := range []string{"Dockerfile*", "*/Dockerfile*", "*/*/Dockerfile*"} {
		m, _ := filepath.Glob(filepath.Join(dir, pat))
		for _, f := range m {
			if rel, err := filepath.Rel(dir, f); err == nil && len(found) < 6 {
				found = append(found, rel)
			}
		}
	}
	if len(found) == 0 {
		return "set dockerfile (or DOCKERFILE) to where it is; none was found below " + dir
	}
	return "set dockerfile (or DOCKERFILE); below the context there are " + strings.Join(found, ", ")
}
