package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
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
	uri    string                  // the variable or text that has named the registry, "" for none
	unset  map[string]fault.Errors // secrets whose variables are not set, by image
}

// note tells of a choice that nobody has made.
func (b *resolver) note(format string, args ...any) {
	b.plan.Notes = append(b.plan.Notes, fmt.Sprintf(format, args...))
}

func (b *resolver) images() error {
	images := b.config.images
	if len(images) == 0 {
		var err error
		if images, err = b.fromEnvironment(); err != nil {
			return err
		}
	}
	cache, e := b.buildCache("BUILD_CACHE")
	if e != nil {
		return e
	}
	var fallback []string
	for i := range images {
		img := &images[i]
		if d, e := parseDestination(img.Repository); e == nil {
			img.Repository = d.repository
		}
		img.Tags = unique(img.Tags) // ["${IMAGE_TAG}", latest], where IMAGE_TAG is latest
		if len(img.Tags) == 0 {
			if fallback == nil {
				var err error
				if fallback, err = b.tags(); err != nil {
					return err
				}
			}
			img.Tags = fallback
		}
		if len(img.Build.CacheTo) == 0 {
			img.Build.Cache = cmp.Or(img.Build.Cache, cache)
		}
		if inline, err := strconv.ParseBool(img.Build.Args["BUILDKIT_INLINE_CACHE"]); err == nil && inline &&
			len(img.Build.CacheTo) == 0 && img.Build.Cache == "" { // as docker build takes it
			img.Build.CacheTo = []string{"type=inline"}
		}
		b.resolvePaths(img)
		b.plan.Images = append(b.plan.Images, img.Image)
	}
	b.nameImages()
	b.unset = map[string]fault.Errors{}
	for i, img := range b.plan.Images {
		b.unset[img.Name()] = images[i].unset
	}
	if err := b.linkImages(images); err != nil {
		return err
	}
	return b.checkImages(images)
}

// unsetSecrets are the errors of images that are kept.
func (b *resolver) unsetSecrets() error {
	var errs fault.Errors
	for _, img := range b.plan.Images {
		errs = append(errs, b.unset[img.Name()]...)
	}
	return errs.OrNil()
}

// nameImages gives each image a name that no other has, nor any container of another.
func (b *resolver) nameImages() {
	uses := map[string]int{} // of containers
	for _, img := range b.plan.Images {
		for _, c := range unique(img.Containers) {
			uses[c]++
		}
	}
	taken := map[string]bool{}
	for c := range uses {
		taken[c] = true
	}
	for i := range b.plan.Images {
		img := &b.plan.Images[i]
		for _, c := range img.Containers {
			if uses[c] > 1 {
				img.Shared = append(img.Shared, c)
			} else if img.ID == "" {
				img.ID = c
			}
		}
		if img.ID != "" {
			continue
		}
		img.ID = img.Repository
		for n := 2; taken[img.ID]; n++ {
			img.ID = fmt.Sprintf("%s-%d", img.Repository, n)
		}
		taken[img.ID] = true
	}
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

// tags are for images that name none: the file's, IMAGE_TAG, or the commit.
func (b *resolver) tags() ([]string, error) {
	if len(b.config.tags) > 0 {
		return b.config.tags, nil
	}
	if text, _ := b.env.first("IMAGE_TAG"); text != "" {
		if e := checkTags(text); e != nil {
			e.Place = "IMAGE_TAG"
			return nil, e
		}
		return splitTags(text), nil
	}
	if c := b.commitID(); c != "" {
		b.note("the tag is %s, the first 12 characters of the commit: IMAGE_TAG is not set", c[:12])
		return []string{c[:12]}, nil
	}
	return nil, &fault.Error{What: "there is no tag for the images", Why: "IMAGE_TAG is not set and no commit was found",
		Fix: "set IMAGE_TAG, as in IMAGE_TAG=latest"}
}

// commitID is the commit that is built, "" where nobody knows.
func (b *resolver) commitID() string {
	for _, c := range []string{b.env["CODEBUILD_RESOLVED_SOURCE_VERSION"], b.env["GITHUB_SHA"]} {
		if commitPattern.MatchString(c) { // an S3 source has a version ID there
			return c
		}
	}
	if b.commit != nil {
		if c := b.commit(); commitPattern.MatchString(c) {
			return c
		}
	}
	return ""
}

// lookup is the environment for the file: it has COMMIT, too.
func (b *resolver) lookup(key string) (string, bool) {
	v, ok := b.env.lookup(key)
	if !ok && key == "COMMIT" {
		v = b.commitID()
		ok = v != ""
	}
	return v, ok
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
		if !plan.Remote(dir) && !strings.HasPrefix(dir, servicePrefix) {
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
	refs := map[string]string{}
	for _, img := range images {
		if e := checkPublicImage(img); e != nil && b.plan.Public {
			errs = append(errs, e)
		}
		for i, c := range img.Containers {
			if slices.Contains(img.Containers[:i], c) {
				errs = append(errs, &fault.Error{Place: img.place, What: fmt.Sprintf("duplicate container %q", c),
					Fix: "name each container once"})
			}
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

// maxParts is for how many platforms all combinations are looked at.
const maxParts = 8

// cacheTags are the tags that an image's caches take in its repository, also where it is built
// in parts, which only the builders decide.
func cacheTags(img plan.Image) (tags []string) {
	if all := img.Build.Platforms; len(all) > 1 && img.Part == nil {
		for n := 1; n < 1<<len(all) && len(all) <= maxParts; n++ {
			var some []string
			for i, p := range all {
				if n&(1<<i) != 0 {
					some = append(some, p)
				}
			}
			tags = append(tags, cacheTags(img.ForPlatforms(some))...)
		}
	}
	if img.Build.Cache == plan.CacheRegistry {
		tags = append(tags, img.CacheTag())
	}
	if img.Build.CacheMounts && img.Build.Cache != plan.CacheLocal {
		tags = append(tags, img.CacheMountsTag())
	}
	return tags
}
