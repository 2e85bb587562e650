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

var numbered = regexp.MustCompile(`^(IMAGE_REPO_NAME|CONTAINER_NAME)(?:_([0-9]+))?$`)

// fromEnvironment reads IMAGE_REPO_NAME and CONTAINER_NAME, alone or numbered.
func (b *resolver) fromEnvironment() ([]imageConfig, error) {
	suffixes := map[string]int{}
	for _, key := range sortedKeys(b.env) {
		value := b.env[key]
		if m := numbered.FindStringSubmatch(key); m != nil && value != "" {
			suffix, n := "", -1
			if m[2] != "" {
				suffix = "_" + m[2]
				var err error
				if n, err = strconv.Atoi(m[2]); err != nil {
					return nil, &fault.Error{Place: key, What: "the number is too large"}
				}
			}
			suffixes[suffix] = n
		}
	}
	if len(suffixes) == 0 {
		return nil, b.nothingConfigured()
	}
	order := sortedKeys(suffixes)
	sort.SliceStable(order, func(i, j int) bool { return suffixes[order[i]] < suffixes[order[j]] })
	var errs fault.Errors
	var images []imageConfig
	for _, s := range order {
		img := imageConfig{place: "IMAGE_REPO_NAME" + s}
		repo, container := b.env["IMAGE_REPO_NAME"+s], b.env["CONTAINER_NAME"+s]
		switch {
		case repo == "":
			errs = append(errs, &fault.Error{Place: "CONTAINER_NAME" + s, What: fmt.Sprintf("IMAGE_REPO_NAME%s is missing", s),
				Fix: fmt.Sprintf("set it to the ECR repository of container %q", container)})
			continue
		case container == "":
			errs = append(errs, &fault.Error{Place: "IMAGE_REPO_NAME" + s, What: fmt.Sprintf("CONTAINER_NAME%s is missing", s),
				Fix: fmt.Sprintf("set it to the name in the task definition of the container that runs %q", repo)})
			continue
		}
		if e := checkRepository(repo); e != nil {
			e.Place = "IMAGE_REPO_NAME" + s
			errs = append(errs, e)
		}
		if e := checkContainer(container); e != nil {
			e.Place = "CONTAINER_NAME" + s
			errs = append(errs, e)
		}
		img.Repository, img.Containers = repo, []string{container}
		img.Build.Context = b.env["BUILD_CONTEXT"+s]
		img.Build.Target = b.env["BUILD_TARGET"+s]
		cache, from := b.env.first("BUILD_CACHE"+s, "BUILD_CACHE")
		img.Build.Cache = plan.Cache(cache)
		if cache != "" && !slices.Contains(plan.Caches, img.Build.Cache) {
			errs = append(errs, &fault.Error{Place: from, What: fmt.Sprintf("%q is not understood", cache),
				Fix: "set it to registry, local or inline"})
		}
		if df := b.env["DOCKERFILE"+s]; df != "" {
			img.dockerfile = b.abs(df) // as docker build -f has it: from where the build runs
		}
		images = append(images, img)
	}
	return b.merge(images), errs.OrNil()
}

func (b *resolver) nothingConfigured() error {
	e := &fault.Error{What: "nothing says what to build",
		Fix: "set IMAGE_REPO_NAME (the ECR repository) and CONTAINER_NAME (the container in the task definition), or write an ecsbuild.yml"}
	for _, key := range sortedKeys(b.env) {
		for _, want := range []string{"IMAGE_REPO_NAME", "CONTAINER_NAME"} {
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
			if o.Repository == img.Repository && o.dockerfile == img.dockerfile && o.Build.Context == img.Build.Context &&
				o.Build.Target == img.Build.Target && o.Build.Cache == img.Build.Cache {
				o.Containers = append(o.Containers, img.Containers...)
				continue next
			}
		}
		out = append(out, img)
	}
	return out
}
