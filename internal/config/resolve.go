package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

// resolver joins file and environment; what the file says wins.
type resolver struct {
	plan   *plan.Plan
	config *fileConfig
	env    variables
	commit func() string
}

func (b *resolver) registry() error {
	b.plan.Region, b.plan.Account = b.config.region, b.config.account
	if b.plan.Region == "" {
		var from string
		if b.plan.Region, from = b.env.first("AWS_REGION", "AWS_DEFAULT_REGION"); from != "" {
			if e := checkRegion(b.plan.Region); e != nil {
				e.Place = from
				return e
			}
		}
	}
	if b.plan.Account == "" {
		var from string
		if b.plan.Account, from = b.env.first("AWS_ACCOUNT_ID"); from != "" {
			if e := checkAccount(b.plan.Account); e != nil {
				e.Place = from
				return e
			}
		}
	}
	return nil
}

// builder is the flag's, the file's, or the environment's.
func (b *resolver) builder(flag plan.Builder) error {
	fromEnvironment := plan.Builder(b.env["ECSBUILD_BUILDER"])
	if fromEnvironment != "" && !slices.Contains(plan.Builders, fromEnvironment) {
		return &fault.Error{Place: "ECSBUILD_BUILDER", What: fmt.Sprintf("%q is not understood", fromEnvironment),
			Fix: "set it to auto, docker or private; a buildkitd is named by BUILDKIT_HOST, an engine by DOCKER_HOST"}
	}
	b.plan.Builder = cmp.Or(flag, b.config.builder, fromEnvironment, plan.BuilderAuto)
	return nil
}

func (b *resolver) images() error {
	images := b.config.images
	if len(images) == 0 {
		var err error
		if images, err = b.fromEnvironment(); err != nil {
			return err
		}
	}
	var fallback string
	for _, img := range images {
		img.Tags = unique(img.Tags) // ["${IMAGE_TAG}", latest], where IMAGE_TAG is latest
		if len(img.Tags) == 0 {
			if fallback == "" {
				var err error
				if fallback, err = b.tag(); err != nil {
					return err
				}
			}
			img.Tags = []string{fallback}
		}
		b.resolvePaths(&img)
		b.plan.Images = append(b.plan.Images, img.Image)
	}
	return b.checkImages(images)
}

// unique keeps the first of each.
func unique(in []string) (out []string) {
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// tag is for images that name none: the file's, IMAGE_TAG, or the commit.
func (b *resolver) tag() (string, error) {
	if b.config.tag != "" {
		return b.config.tag, nil
	}
	if t, _ := b.env.first("IMAGE_TAG"); t != "" {
		if e := checkTag(t); e != nil {
			e.Place = "IMAGE_TAG"
			return "", e
		}
		return t, nil
	}
	commits := []string{b.env["CODEBUILD_RESOLVED_SOURCE_VERSION"], b.env["GITHUB_SHA"]}
	for _, c := range commits {
		if commitPattern.MatchString(c) { // an S3 source has a version ID there
			return c[:12], nil
		}
	}
	if b.commit != nil {
		if c := b.commit(); commitPattern.MatchString(c) {
			return c[:12], nil
		}
	}
	return "", &fault.Error{What: "there is no tag for the images", Why: "IMAGE_TAG is not set and no commit was found",
		Fix: "set IMAGE_TAG, as in IMAGE_TAG=latest"}
}

func (b *resolver) abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(b.plan.Directory, path)
}

// resolvePaths returns the defaults and makes local paths absolute. In the file
// a dockerfile is relative to its context, as in Compose.
func (b *resolver) resolvePaths(img *imageConfig) {
	build := &img.Build
	remote := plan.Remote(build.Context)
	if !remote {
		build.Context = b.abs(build.Context)
	}
	switch df := img.dockerfile; {
	case remote && df == "":
		build.Dockerfile = "Dockerfile"
	case remote:
		build.Dockerfile = df
	case df == "":
		build.Dockerfile = filepath.Join(build.Context, "Dockerfile")
	case filepath.IsAbs(df):
		build.Dockerfile = df
	default:
		build.Dockerfile = filepath.Join(build.Context, df)
	}
	for _, list := range [][]string{build.CacheFrom, build.CacheTo} {
		for i := range list {
			list[i] = b.cachePath(list[i])
		}
	}
	for i, s := range build.SSH {
		if id, path, ok := strings.Cut(s, "="); ok {
			build.SSH[i] = id + "=" + b.abs(path)
		}
	}
	for name, dir := range build.AdditionalContexts {
		if !plan.Remote(dir) {
			build.AdditionalContexts[name] = b.abs(dir)
		}
	}
}

// cachePath makes the folder of a local cache absolute.
func (b *resolver) cachePath(cache string) string {
	parts := strings.Split(cache, ",")
	if !slices.Contains(parts, "type=local") {
		return cache
	}
	for i, p := range parts {
		if k, v, ok := strings.Cut(p, "="); ok && (k == "src" || k == "dest") {
			parts[i] = k + "=" + b.abs(v)
		}
	}
	return strings.Join(parts, ",")
}

// checkImages finds what two images cannot share.
func (b *resolver) checkImages(images []imageConfig) error {
	var errs fault.Errors
	containers, refs := map[string]bool{}, map[string]string{}
	for _, img := range images {
		for _, c := range img.Containers {
			if containers[c] {
				errs = append(errs, &fault.Error{Place: img.place, What: fmt.Sprintf("duplicate container %q", c),
					Fix: "a definitions file names each container once"})
			}
			containers[c] = true
		}
	}
	for _, img := range b.plan.Images {
		for _, t := range img.Tags {
			ref := img.Repository + ":" + t
			if other, ok := refs[ref]; ok {
				errs = append(errs, &fault.Error{What: fmt.Sprintf("%s and %s would both be %s", other, img.Name(), ref),
					Fix: "give them different repositories or tags, or list both names under containers of one image"})
			}
			refs[ref] = img.Name()
		}
	}
	for _, img := range b.plan.Images {
		for _, tag := range cacheTags(img) {
			ref := img.Repository + ":" + tag
			if other, ok := refs[ref]; ok {
				errs = append(errs, &fault.Error{What: fmt.Sprintf("%s is the tag of a build cache of %s, and something of %s as well",
					ref, img.Name(), other), Fix: "choose another tag or container name, or use cache: local"})
			}
			refs[ref] = img.Name()
		}
	}
	return errs.OrNil()
}

// cacheTags are the tags that an image's caches take in its repository.
func cacheTags(img plan.Image) (tags []string) {
	if img.Build.Cache == plan.CacheRegistry {
		tags = append(tags, img.CacheTag())
	}
	if img.Build.CacheMounts && img.Build.Cache != plan.CacheLocal {
		tags = append(tags, img.CacheMountsTag())
	}
	return tags
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

func (b *resolver) definitions() error {
	var all []string
	for _, img := range b.plan.Images {
		all = append(all, img.Containers...)
	}
	defs := b.config.definitions
	if len(defs) == 0 {
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
		if len(d.Containers) == 0 {
			d.Containers = all
		}
		for _, c := range d.Containers {
			if !slices.Contains(all, c) {
				errs = append(errs, &fault.Error{Place: d.place, What: fmt.Sprintf("no image has the container %q", c),
					Fix: fault.DidYouMean(c, all) + "the containers are " + strings.Join(all, ", ")})
			}
		}
		if d.Format == plan.ImageDetail && len(d.Containers) != 1 {
			errs = append(errs, &fault.Error{Place: d.place,
				What: fmt.Sprintf("an image-detail file holds one image, not %d",
					len(d.Containers)), Fix: "name one container under containers"})
		}
		b.plan.Definitions = append(b.plan.Definitions, d.Definitions)
	}
	return errs.OrNil()
}

// logins puts Docker Hub first: the file's account, else the environment's,
// else the two parameters that the usual setup has.
func (b *resolver) logins() error {
	hub := plan.Login{Host: plan.DockerHub}
	user, pass := b.env["DOCKER_USER"], b.env["DOCKER_PASSWORD"]
	switch c := b.config.hub; {
	case c != nil:
		hub.Username, hub.Password = c.username, c.password
	case user != "" && pass != "":
		hub.Username = plan.Source{Kind: plan.FromEnv, Name: "DOCKER_USER", Value: plan.NewSecret(user)}
		hub.Password = plan.Source{Kind: plan.FromEnv, Name: "DOCKER_PASSWORD", Value: plan.NewSecret(pass)}
	case user != "" || pass != "":
		have, missing := "DOCKER_USER", "DOCKER_PASSWORD"
		if user == "" {
			have, missing = missing, have
		}
		return &fault.Error{Place: have, What: missing + " is missing", Fix: "set both, or neither"}
	default:
		hub.Username = plan.Source{Kind: plan.FromSSM, Name: "DOCKER_HUB_ID"}
		hub.Password = plan.Source{Kind: plan.FromSSM, Name: "DOCKER_HUB_PASSWORD"}
		hub.Assumed = true
	}
	b.plan.Logins = []plan.Login{hub}
	seen := map[string]bool{}
	for _, l := range b.config.logins {
		host := plan.CanonicalHost(l.host)
		if host == plan.DockerHub {
			return &fault.Error{Place: l.place, What: "the account for Docker Hub belongs under docker_hub",
				Fix: "move it there"}
		}
		if seen[host] {
			return &fault.Error{Place: l.place, What: "duplicate registry " + host}
		}
		seen[host] = true
		b.plan.Logins = append(b.plan.Logins, plan.Login{Host: host, Username: l.username, Password: l.password})
	}
	return nil
}
