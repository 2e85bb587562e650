package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/goccy/go-yaml/ast"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// definitionsConfig is a definitions file as it was written.
type definitionsConfig struct {
	place string
	plan.Definitions
	containers []entryConfig // empty for all
	also       []plan.Entry
}

// entryConfig is a container of a file, and the repository of its image where that is named.
type entryConfig struct{ container, repository string }

func (d *document) definition(n ast.Node) (definitionsConfig, error) {
	def := definitionsConfig{place: d.fail(n, "", "").Place}
	def.Format = plan.ImageDefinitions
	err := d.mapping("a definitions file", d.definitionKeys(&def))(n)
	return def, err
}

func (d *document) definitionKeys(def *definitionsConfig) map[string]field {
	return map[string]field{
		"file":       d.text("file", &def.File),
		"containers": d.containers(&def.containers),
		"also":       d.also(&def.also),
		"format":     oneOf(d, "format", &def.Format, plan.ImageDefinitions, plan.ImageDetail),
		"service": {func(n ast.Node) error {
			def.Service = &plan.Service{Cluster: "default"}
			err := d.mapping("service", d.serviceKeys(def.Service))(n)
			if def.Service.Cluster == "" {
				def.Service.Cluster = "default"
			}
			if err == nil && def.Service.Name == "" {
				err = d.fail(n, "a service without name", "name the ECS service that is deployed")
			}
			return err
		}, isObject(d.serviceKeys(&plan.Service{}), "name")},
	}
}

func (d *document) serviceKeys(s *plan.Service) map[string]field {
	return map[string]field{
		"cluster": d.text("cluster", &s.Cluster),
		"name":    d.text("name", &s.Name),
	}
}

// containers reads names, names with the repository of their image as in app=shop-web, or a
// mapping of both.
func (d *document) containers(into *[]entryConfig) field {
	add := func(n ast.Node, container, repository string) error {
		if e := checkContainer(container); e != nil {
			return d.at(n, e)
		}
		*into = append(*into, entryConfig{container, repository})
		return nil
	}
	item := func(n ast.Node) error {
		s, err := d.scalar("containers", n)
		if err != nil {
			return err
		}
		container, repository, ok := strings.Cut(s, "=")
		if ok && repository == "" {
			return d.fail(n, fmt.Sprintf("containers: %q names no repository after =", s), "write CONTAINER, or CONTAINER=REPOSITORY")
		}
		return add(n, container, repository)
	}
	return field{func(n ast.Node) error {
		r, err := d.resolve(n)
		if err != nil {
			return err
		}
		switch kind(r) {
		case "a list":
			return d.list("containers", item)(n)
		case "a mapping":
			return d.each("containers", n, func(container string, k, v ast.Node) error {
				repository, err := d.scalar("containers."+container, v)
				if err != nil {
					return err
				}
				return add(k, container, repository)
			})
		}
		return item(n)
	}, isEither(isEntry, isList(isEntry), isMap(isText))}
}

// also reads the entries that no image of the run is for.
func (d *document) also(into *[]plan.Entry) field {
	return field{func(n ast.Node) error {
		return d.each("also", n, func(container string, k, v ast.Node) error {
			if e := checkContainer(container); e != nil {
				return d.at(k, e)
			}
			uri, err := d.scalar("also."+container, v)
			if err != nil {
				return err
			}
			if _, err := reference.ParseNormalizedNamed(uri); err != nil {
				return d.fail(v, fmt.Sprintf("also: %q is not an image", uri), "write it as in public.ecr.aws/nginx/nginx:1.29")
			}
			*into = append(*into, plan.Entry{Container: container, URI: uri})
			return nil
		})
	}, isMap(isText)}
}

// file is where a definitions file goes.
func (b *resolver) file(d plan.Definitions) string {
	switch {
	case d.File != "":
		return b.abs(d.File)
	case d.Format == plan.ImageDetail:
		return b.abs("imageDetail.json")
	}
	return b.abs(DefaultFile)
}

// files are the definitions files, before anything is known to be right.
func (b *resolver) files() (out []plan.Definitions) {
	for _, d := range b.config.definitions {
		out = append(out, plan.Definitions{File: b.file(d.Definitions)})
	}
	return out
}

// definitions finds the image of each container of each file. Where the file names none,
// there is one with every container, if there is any.
func (b *resolver) definitions() error {
	defs := b.config.definitions
	if defs == nil {
		if !slices.ContainsFunc(b.plan.Images, func(img plan.Image) bool { return len(img.Containers) > 0 }) {
			b.note("no image names its container, so no definitions file is written")
			return nil
		}
		defs = []definitionsConfig{{Definitions: plan.Definitions{Format: plan.ImageDefinitions}}}
	}
	b.plan.Definitions = nil
	var errs fault.Errors
	files := map[string]bool{}
	for _, d := range defs {
		d.File = b.file(d.Definitions)
		if files[d.File] {
			errs = append(errs, &fault.Error{Place: d.place, What: "two definitions are written to " + filepath.Base(d.File),
				Fix: "give each a file of its own"})
		}
		files[d.File] = true
		errs = append(errs, b.entries(&d)...)
		b.plan.Definitions = append(b.plan.Definitions, d.Definitions)
	}
	return errs.OrNil()
}

// entries are those of one file.
func (b *resolver) entries(d *definitionsConfig) (errs fault.Errors) {
	fail := func(what, fix string) { errs = append(errs, &fault.Error{Place: d.place, What: what, Fix: fix}) }
	if len(d.containers) == 0 {
		for _, img := range b.plan.Images {
			for _, c := range img.Containers {
				d.Entries = append(d.Entries, plan.Entry{Container: c, Image: img.Name()})
			}
		}
		if len(d.Entries)+len(d.also) == 0 {
			fail("no image names its container, so a definitions file has nothing to say",
				"add container to an image, or write definitions: []")
		}
	}
	for _, c := range d.containers {
		name, e := b.imageOf(c)
		if e != nil {
			e.Place = d.place
			errs = append(errs, e)
			continue
		}
		d.Entries = append(d.Entries, plan.Entry{Container: c.container, Image: name})
	}
	if d.Format == plan.ImageDetail && len(d.Entries) != 1 {
		fail(fmt.Sprintf("an image-detail file holds one image, not %d", len(d.Entries)), "name one container under containers")
	}
	if d.Format == plan.ImageDetail && len(d.also) > 0 {
		fail("an image-detail file holds one image, so it cannot have also", "leave also out")
	}
	d.Entries = append(d.Entries, d.also...)
	seen := map[string]bool{}
	for _, c := range d.Definitions.Containers() {
		if seen[c] {
			fail(fmt.Sprintf("duplicate container %q in %s", c, filepath.Base(d.File)),
				"a definitions file names each container once; where two images have a container of one name, list the containers of each file under definitions, as in [CONTAINER=REPOSITORY]")
		}
		seen[c] = true
	}
	return errs
}

// imageOf finds the image that a container of a definitions file runs.
func (b *resolver) imageOf(c entryConfig) (name string, _ *fault.Error) {
	var found, containers, repositories []string
	repository := c.repository
	if d, e := parseDestination(repository); e == nil && repository != "" {
		repository = d.repository // of a URI
	}
	for _, img := range b.plan.Images {
		containers, repositories = append(containers, img.Containers...), append(repositories, img.Repository)
		if c.repository == "" && slices.Contains(img.Containers, c.container) ||
			c.repository != "" && (img.Repository == repository || img.Name() == c.repository) {
			found = append(found, img.Name())
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1 && c.repository == "":
		return "", &fault.Error{What: fmt.Sprintf("several images have the container %q: %s", c.container, strings.Join(found, ", ")),
			Fix: fmt.Sprintf("say which one this file means, as in containers: [%s=%s]", c.container, found[0])}
	case len(found) > 1:
		return "", &fault.Error{What: fmt.Sprintf("several images go to the repository %s", c.repository),
			Fix: "write one of " + strings.Join(found, ", ") + " in its place"}
	case c.repository != "":
		return "", &fault.Error{What: fmt.Sprintf("no image goes to the repository %q", c.repository),
			Fix: fault.DidYouMean(c.repository, repositories) + "the repositories are " + strings.Join(unique(repositories), ", ")}
	case len(containers) == 0:
		return "", &fault.Error{What: fmt.Sprintf("no image has the container %q", c.container),
			Fix: "name the repository of its image, as in " + c.container + "=" + repositories[0]}
	}
	return "", &fault.Error{What: fmt.Sprintf("no image has the container %q", c.container),
		Fix: fault.DidYouMean(c.container, containers) + "the containers are " + strings.Join(unique(containers), ", ")}
}
