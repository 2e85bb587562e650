package config

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// variables is the environment as a map.
type variables map[string]string

func environment(environ []string) variables {
	v := variables{}
	for _, kv := range environ {
		if key, value, ok := strings.Cut(kv, "="); ok {
			v[key] = value
		}
	}
	return v
}

func (v variables) lookup(key string) (string, bool) {
	s, ok := v[key]
	return s, ok
}

// first returns the first variable that is set and not empty, and its name.
func (v variables) first(keys ...string) (value, key string) {
	for _, k := range keys {
		if v[k] != "" {
			return v[k], k
		}
	}
	return "", ""
}

var numbered = regexp.MustCompile(`^(IMAGE_REPO_NAME|REPOSITORY_URI|CONTAINER_NAME)(?:_([0-9]+))?$`)

// fromEnvironment reads IMAGE_REPO_NAME or REPOSITORY_URI, and CONTAINER_NAME, alone or
// numbered.
func (b *resolver) fromEnvironment() ([]imageConfig, error) {
	suffixes := map[string]int{}
	named := false // a container is: then each image has one
	for _, key := range sortedKeys(b.env) {
		m := numbered.FindStringSubmatch(key)
		if m == nil || b.env[key] == "" {
			continue
		}
		suffix, n := "", -1
		if m[2] != "" {
			suffix = "_" + m[2]
			var err error
			if n, err = strconv.Atoi(m[2]); err != nil {
				return nil, &fault.Error{Place: key, What: "the number is too large"}
			}
		}
		suffixes[suffix] = n
		named = named || m[1] == "CONTAINER_NAME"
	}
	if len(suffixes) == 0 {
		return nil, b.nothingConfigured()
	}
	if d, e := parseDestination(strings.TrimSuffix(b.env["REPOSITORY_URI"], "/")); e == nil && d.host != "" && d.repository == "" &&
		b.env["IMAGE_REPO_NAME"]+b.env["CONTAINER_NAME"] == "" && len(suffixes) > 1 {
		delete(suffixes, "") // the registry of the numbered ones
	}
	order := sortedKeys(suffixes)
	sort.SliceStable(order, func(i, j int) bool { return suffixes[order[i]] < suffixes[order[j]] })
	var errs fault.Errors
	var images []imageConfig
	for _, s := range order {
		img := imageConfig{}
		container := b.env["CONTAINER_NAME"+s]
		repo, from, e := b.repository(s)
		switch {
		case e != nil:
			e.Place = from
			errs = append(errs, e)
		case repo == "":
			errs = append(errs, &fault.Error{Place: "CONTAINER_NAME" + s, What: fmt.Sprintf("IMAGE_REPO_NAME%s is missing", s),
				Fix: fmt.Sprintf("set it, or REPOSITORY_URI%s, to the ECR repository of container %q", s, container)})
			continue
		case container == "" && named:
			errs = append(errs, &fault.Error{Place: from, What: fmt.Sprintf("CONTAINER_NAME%s is missing", s),
				Fix: fmt.Sprintf("set it to the name in the task definition of the container that runs %q", repo)})
			continue
		}
		if container != "" {
			if e := checkContainer(container); e != nil {
				e.Place = "CONTAINER_NAME" + s
				errs = append(errs, e)
			}
			img.Containers = []string{container}
		}
		img.place, img.Repository = from, repo
		img.Build.Context = b.env["BUILD_CONTEXT"+s]
		img.Build.Target = b.env["BUILD_TARGET"+s]
		if img.Build.Cache, e = b.buildCache("BUILD_CACHE" + s); e != nil {
			errs = append(errs, e)
		}
		if df := b.env["DOCKERFILE"+s]; df != "" {
			img.dockerfile = b.abs(df) // as docker build -f has it: from where the build runs
		}
		images = append(images, img)
	}
	return b.merge(images), errs.OrNil()
}

// buildCache is what a variable says of the build cache, "" for nothing.
func (b *resolver) buildCache(key string) (plan.Cache, *fault.Error) {
	cache := plan.Cache(b.env[key])
	if cache != "" && !slices.Contains(plan.Caches, cache) {
		return "", &fault.Error{Place: key, What: fmt.Sprintf("%q is not understood", cache),
			Fix: "set it to registry, local or inline"}
	}
	return cache, nil
}

// repository is what IMAGE_REPO_NAME and REPOSITORY_URI of one suffix name together, and
// the variable that an error is about.
func (b *resolver) repository(suffix string) (name, from string, _ *fault.Error) {
	var found destination
	for _, key := range []string{"IMAGE_REPO_NAME" + suffix, "REPOSITORY_URI" + suffix} {
		text := strings.TrimSuffix(strings.TrimSpace(b.env[key]), "/")
		if text == "" {
			continue
		}
		d, e := parseDestination(text)
		if e != nil {
			return "", key, e
		}
		if d.repository != "" && found.repository != "" && d.repository != found.repository {
			return "", key, &fault.Error{What: fmt.Sprintf("its repository is %s, and %s is %s", d.repository, from, found.repository),
				Fix: "unset one of them"}
		}
		if from == "" || found.repository == "" {
			found, from = d, key
		}
	}
	if from != "" && found.repository == "" {
		return "", from, checkDestination(b.env[from])
	}
	return found.repository, from, nil
}

func (b *resolver) nothingConfigured() error {
	e := &fault.Error{What: "nothing says what to build",
		Fix: "set IMAGE_REPO_NAME or REPOSITORY_URI (the ECR repository) and CONTAINER_NAME (the container in the task definition, for a definitions file), or write an ecsbuild.yml"}
	for _, key := range sortedKeys(b.env) {
		for _, want := range []string{"IMAGE_REPO_NAME", "REPOSITORY_URI", "CONTAINER_NAME"} {
			if b.env[key] != "" && key != want && fault.Distance(key, want) <= 2 {
				e.Why = fmt.Sprintf("did you mean %s where the environment has %s?", want, key)
			}
		}
	}
	return e
}

// merge makes one image of several containers that run the same build.
func (b *resolver) merge(images []imageConfig) []imageConfig {
	var out []imageConfig
next:
	for _, img := range images {
		for i := range out {
			o := &out[i]
			if len(img.Containers) > 0 && o.Repository == img.Repository && o.dockerfile == img.dockerfile && o.Build.Context == img.Build.Context &&
				o.Build.Target == img.Build.Target && o.Build.Cache == img.Build.Cache {
				o.Containers = append(o.Containers, img.Containers...)
				continue next
			}
		}
		out = append(out, img)
	}
	return out
}
